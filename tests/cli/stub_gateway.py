"""A gateway for tests of the client: the API's answers from memory, and a record of what was asked."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

SUCCESS: list[dict[str, Any]] = [{"status": "in_progress", "log": ["resolving"]}, {"status": "success", "image": "x"}]


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """`stock` leaves out what OpenFaaS does not have. `canned` answers `METHOD /path` with (status, headers, body)."""

    url: str = ""
    stock: bool = False
    login: tuple[str, str] | None = None
    build_report: list[dict[str, Any]] = field(default_factory=lambda: list(SUCCESS))
    condition: dict[str, str] = field(default_factory=lambda: {"phase": "Ready", "message": ""})
    replica: dict[str, Any] = field(default_factory=lambda: {"state": "Running", "restarts": 2, "reason": ""})
    failing: dict[str, str] = field(default_factory=dict)
    functions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, Any]] = field(default_factory=lambda: {"openfaas-fn": {"name": "openfaas-fn"}})
    log_lines: list[dict[str, Any]] = field(default_factory=list)
    canned: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def asked_for(self, what: str) -> list[Asked]:
        """The requests of `METHOD /path`, oldest first."""
        return [a for a in self.asked if f"{a.method} {a.path}" == what]

    def answer(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        if f"{asked.method} {asked.path}" in self.canned:
            return self.canned[f"{asked.method} {asked.path}"]
        if asked.path.startswith("/function/"):
            return self._called(asked)
        if self.login and asked.path not in ("/healthz", "/publickey"):
            token = base64.b64encode(":".join(self.login).encode()).decode()
            if asked.headers.get("authorization") != f"Basic {token}":
                return 401, {"WWW-Authenticate": 'Basic realm="Restricted"'}, b"invalid credentials"
        parts = [part for part in asked.path.split("/") if part]
        match [asked.method, *parts]:
            case ["GET", "healthz"]:
                return 200, {}, b""
            case ["GET", "publickey"] if not self.stock:
                return _json({"key_id": "x", "algorithm": "nacl/box", "public_key": "x"})
            case ["POST", "build"] if not self.stock:
                report = "".join(json.dumps(line) + "\n" for line in self.build_report)
                return 200, {"Content-Type": "application/x-ndjson"}, report.encode()
            case ["GET", "system", "info"]:
                version = {"release": "1.2", "sha": "abc"}
                provider = {"provider": "pinnace", "orchestration": "local", "version": version}
                return _json({"provider": provider, "version": version, "arch": "x86_64"})
            case [_, "system", "functions"]:
                return self._functions(asked)
            case ["GET", "system", "function", name]:
                found = self.functions.get((_namespace(asked.query.get("namespace")), name))
                return _json(found) if found else (404, {}, b"")
            case ["GET", "api", "v1", "functions", name] if not self.stock:
                return self._details(asked, name)
            case ["GET", "api", "v1", "functions", name, "scaling"] if not self.stock:
                return self._scaling(asked, name)
            case ["POST", "system", "scale-function", name]:
                found = self.functions.get((_namespace(asked.json().get("namespace")), name))
                if not found:
                    return 404, {}, b"no such function"
                found["replicas"] = found["availableReplicas"] = asked.json()["replicas"]
                return 202, {}, b""
            case [_, "system", "secrets"]:
                return self._secrets(asked)
            case ["GET", "system", "namespaces"]:
                return _json(sorted(self.namespaces))
            case [_, "system", "namespace", *rest]:
                return self._namespace(asked, rest)
            case ["GET", "system", "logs"]:
                text = "".join(json.dumps(line) + "\n" for line in self.log_lines)
                return 200, {"Content-Type": "application/x-ndjson"}, text.encode()
        return 404, {}, b"404 page not found"

    def _functions(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        if asked.method == "GET":
            place = _namespace(asked.query.get("namespace"))
            return _json([f for (space, _), f in sorted(self.functions.items()) if space == place])
        body = asked.json()
        key = (_namespace(body.get("namespace")), body.get("service") or body.get("functionName"))
        if asked.method in ("PUT", "DELETE") and key not in self.functions:
            return 404, {}, b"not found"
        if asked.method == "POST" and key in self.functions:
            return 409, {}, b"it exists"
        if asked.method == "DELETE":
            del self.functions[key]
            return 202, {}, b""
        if key[1] in self.failing and self.failing[key[1]].startswith("refuse "):
            return 400, {}, self.failing[key[1]].removeprefix("refuse ").encode()
        status = {"name": key[1], "namespace": key[0], "replicas": 1, "availableReplicas": 1, "invocationCount": 0}
        self.functions[key] = {**{k: v for k, v in body.items() if k != "service"}, **status}
        if self.stock:
            return 202, {}, b""
        return _json({"name": key[1], "namespace": key[0], "generation": 7, "revision": f"{key[1]}-00001"}, 202)

    def _scaling(self, asked: Asked, name: str) -> tuple[int, dict[str, str], bytes]:
        if (_namespace(asked.query.get("namespace")), name) not in self.functions:
            return 404, {}, b"no such function"
        decision = {"at": "2026-01-31T12:00:00Z", "replicas": 2, "previous": 1, "reason": "12 / target 7 → 2"}
        settings: dict[str, object] = {
            "minReplicas": 1,
            "maxReplicas": 5,
            "metric": "concurrency",
            "target": 10.0,
            "utilisation": 0.7,
        }
        zero: dict[str, object] = {"zero": True, "zeroAfterS": 900.0, "learns": True}
        return _json({"settings": settings | zero, "latest": decision, "changes": [decision] * 9, "learnt": "", "trouble": ""})

    def _details(self, asked: Asked, name: str) -> tuple[int, dict[str, str], bytes]:
        found = self.functions.get((_namespace(asked.query.get("namespace")), name))
        if not found:
            return 404, {}, b"no such function"
        failed = {"phase": "Failed", "message": self.failing[name]} if name in self.failing else self.condition
        replica = {"id": f"{name}-00001-abc", "revision": f"{name}-00001", **self.replica}
        return _json(
            {
                "name": name,
                "condition": failed,
                "replicas": [replica],
                "revisions": [
                    {"name": f"{name}-00001", "image": found["image"], "createdAt": "2026-01-31T12:00:00Z", "percent": 100}
                ],
                "traffic": [{"revision": f"{name}-00001", "percent": 100}],
                "starts": [
                    {
                        "replica": "hello-00002-x",
                        "revision": "hello-00002",
                        "kind": "zygote",
                        "at": "2026-01-01T00:00:00.000Z",
                        "placedMs": 0.04,
                        "preparedMs": 0.0,
                        "madeMs": 2.25,
                        "readyMs": 4.0,
                        "totalMs": 6.29,
                        "failed": "",
                    }
                ],
                "notes": ["secrets are mounted at /var/openfaas/secrets", "cpu: not enforced"],
            }
        )

    def _secrets(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        if asked.method == "GET":
            return _json([{"name": name, "namespace": "openfaas-fn"} for name in sorted(self.secrets)])
        body = asked.json()
        there = body["name"] in self.secrets
        if asked.method == "POST" and there:
            return 409, {}, b"exists"
        if asked.method in ("PUT", "DELETE") and not there:
            return 404, {}, b"not found"
        if asked.method == "DELETE":
            del self.secrets[body["name"]]
        else:
            self.secrets[body["name"]] = body
        return 202, {}, b""

    def _namespace(self, asked: Asked, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        if asked.method == "POST":
            name = asked.json()["name"]
            if name in self.namespaces:
                return 409, {}, b"exists"
            self.namespaces[name] = asked.json()
            return 201, {}, b""
        if rest[0] not in self.namespaces:
            return 404, {}, b"not found"
        if asked.method == "GET":
            return _json(self.namespaces[rest[0]])
        if asked.method == "PUT":
            self.namespaces[rest[0]] = asked.json()
        else:
            del self.namespaces[rest[0]]
        return 202, {}, b""

    def _called(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        name, _, place = asked.path.split("/")[2].partition(".")
        if (_namespace(place), name) not in self.functions:
            return 404, {"X-OpenFaaS-Internal": "edge"}, f"no function {name}".encode()
        return 200, {"X-Call-Id": "call-1"}, asked.body


def _namespace(name: str | None) -> str:
    return name or "openfaas-fn"


def _json(value: object, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gateway: ClassVar[Gateway]

    def _serve(self) -> None:
        self.close_connection = True
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        asked = Asked(self.command, url.path, query, {k.lower(): v for k, v in self.headers.items()}, self._body())
        self.gateway.asked.append(asked)
        status, headers, body = self.gateway.answer(asked)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Silent."""


@contextmanager
def running(gateway: Gateway) -> Iterator[Gateway]:
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
