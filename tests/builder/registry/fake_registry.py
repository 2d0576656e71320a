"""A registry in this process, with as much of the distribution API as a client needs, that can be told to misbehave."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(eq=False)
class Fault:
    """Answers the first request that it fits in its own way; then it is gone, before the answer goes out."""

    fits: Callable[[Handler], bool]
    act: Callable[[Handler], None]


class FakeRegistry(ThreadingHTTPServer):
    """`faults` are asked about each request, in order.

    `auth` is None, `basic` or `bearer`; the login is `user:secret`. `requests` are (method, path, headers).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.has: set[tuple[str, str]] = set()
        self.uploads: dict[str, bytearray] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.auth: str | None = None
        self.referrers_api = False
        self.tokens = 0
        self.lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def asked(self, method: str, pattern: str = "") -> list[str]:
        """The paths of requests with that method that fit."""
        return [path for m, path, _ in self.requests if m == method and re.search(pattern, path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeRegistry

    def handle_any(self) -> None:
        self.body = b""
        with self.server.lock:
            self.server.requests.append((self.command, self.path, dict(self.headers)))
            fault = next((fault for fault in self.server.faults if fault.fits(self)), None)
            if fault is not None:
                self.server.faults.remove(fault)
        if fault is not None:
            return fault.act(self)
        self.take_body()
        if self.path.startswith("/token"):
            return self.give_token()
        if not self.authorized():
            return None
        return self.serve()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any

    def take_body(self) -> None:
        self.body += self.rfile.read(int(self.headers.get("Content-Length") or 0) - len(self.body))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str, message: str, **headers: str) -> None:
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def cut(self) -> None:
        """Close the connection in the middle."""
        self.close_connection = True
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def authorized(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.server.auth is None or given in (_basic(), "Bearer token-for-user", "Bearer token-for-anybody"):
            return True
        challenge = 'Basic realm="here"'
        if self.server.auth == "bearer":
            challenge = f'Bearer realm="http://{self.server.host}/token?x=1",service="fake",scope="repository:a:pull"'
        self.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def give_token(self) -> None:
        self.server.tokens += 1
        refresh = parse_qs(self.body.decode()).get("refresh_token", [""])[0]
        if self.headers.get("Authorization") == _basic() or refresh == "identity":
            self.answer(200, b'{"token": "token-for-user", "expires_in": 300}')
        else:
            self.answer(401, b"{}")

    def serve(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs|referrers)/(.+|uploads/)", parts.path)
        if match is None:
            return self.error(404, "NAME_UNKNOWN", "no such path")
        repository, what, which = match.groups()
        if upload := re.fullmatch(r"(.+)/blobs/uploads", repository):
            repository, what, which = upload[1], "blobs", f"uploads/{which}"
        if what == "manifests":
            return self.manifest(repository, which)
        if what == "referrers":
            return self.referrers(repository, which)
        if which.startswith("uploads/"):
            return self.upload(repository, which.removeprefix("uploads/"), query)
        return self.blob(repository, which)

    def manifest(self, repository: str, which: str) -> None:
        store = self.server.manifests
        if self.command == "PUT":
            digest = _digest(self.body)
            media_type = self.headers["Content-Type"]
            store[repository, which] = store[repository, digest] = (media_type, self.body)
            if self.server.referrers_api and b'"subject"' in self.body:
                subject = json.loads(self.body)["subject"]["digest"]
                return self.answer(201, Docker_Content_Digest=digest, OCI_Subject=subject)
            return self.answer(201, Docker_Content_Digest=digest)
        if (repository, which) not in store:
            return self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, content = store[repository, which]
        return self.answer(200, content, Content_Type=media_type, Docker_Content_Digest=_digest(content))

    def referrers(self, repository: str, digest: str) -> None:
        if not self.server.referrers_api:
            return self.error(404, "UNSUPPORTED", "no such path")
        found: list[dict[str, Any]] = []
        for (there, which), (media_type, content) in self.server.manifests.items():
            said = json.loads(content)
            if there == repository and which.startswith("sha256:") and said.get("subject", {}).get("digest") == digest:
                found.append({"mediaType": media_type, "digest": which, "size": len(content)})
        media_type = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": found}
        return self.answer(200, json.dumps(index).encode(), Content_Type=media_type)

    def blob(self, repository: str, digest: str) -> None:
        if (repository, digest) not in self.server.has:
            return self.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        content = self.server.blobs[digest]
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            return self.answer(206, content[int(asked[1]) :])
        return self.answer(200, content, Docker_Content_Digest=digest)

    def upload(self, repository: str, which: str, query: dict[str, str]) -> None:
        uploads = self.server.uploads
        if self.command == "POST":
            digest = query.get("mount", "")
            if (query.get("from", ""), digest) in self.server.has:
                self.server.has.add((repository, digest))
                return self.answer(201, Docker_Content_Digest=digest)
            name = f"u{len(uploads)}"
            uploads[name] = bytearray()
            return self.answer(202, Location=f"/v2/{repository}/blobs/uploads/{name}?state=0")
        if which not in uploads:
            return self.error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
        upload = uploads[which]
        if self.command == "PATCH":
            start = int(self.headers["Content-Range"].partition("-")[0])
            if start != len(upload):
                return self.error(416, "BLOB_UPLOAD_INVALID", f"expected {len(upload)}")
            upload += self.body
        elif self.command == "PUT":
            content = bytes(upload) + self.body
            if _digest(content) != query["digest"]:
                return self.error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            del uploads[which]
            self.server.blobs[query["digest"]] = content
            self.server.has.add((repository, query["digest"]))
            return self.answer(201, Docker_Content_Digest=query["digest"])
        status = 204 if self.command == "GET" else 202
        location = f"/v2/{repository}/blobs/uploads/{which}?state={len(upload)}"
        return self.answer(status, Location=location, Range=f"0-{max(0, len(upload) - 1)}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """A registry that serves until the context ends."""
    server = FakeRegistry()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def on(method: str, pattern: str, act: Callable[[Handler], None]) -> Fault:
    """A fault for requests of that method whose path fits."""
    return Fault(lambda handler: handler.command == method and re.search(pattern, handler.path) is not None, act)


def _basic() -> str:
    return "Basic " + base64.b64encode(b"user:secret").decode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
