"""One origin, three proxies in front of it, each one process; and wrk, which loads them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.invocation_edge import FUNCTION

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
BODIES: Final = {"2b": b"ok", "10k": b"k" * 10_240, "1m": b"m" * 1_048_576}
"""What the origin answers under each path; also what POST requests carry."""

# `/upload` reads the whole request before it answers (by way of `/2b`): a plain `return` answers before the body came.
ORIGIN: Final = """
daemon off; worker_processes 1; pid {folder}/origin.pid; error_log {folder}/origin.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; tcp_nopush on;
    open_file_cache max=100 inactive=1h; client_max_body_size 0; client_body_buffer_size 2m;
    upstream itself {{ server unix:{folder}/origin; keepalive 200; }}
    server {{
        listen 127.0.0.1:{port}; listen unix:{folder}/origin;
        location = /count {{ stub_status; }}
        location = /2b {{ return 200 "ok"; }}
        location = {prefix}/2b {{ return 200 "ok"; }}
        location ~ /fresh$ {{ add_header X-Fresh $request_id; return 200 "ok"; }}
        location = /10k {{ alias {folder}/10k; }}
        location = {prefix}/10k {{ alias {folder}/10k; }}
        location = /1m {{ alias {folder}/1m; }}
        location = {prefix}/1m {{ alias {folder}/1m; }}
        location ~ /upload$ {{
            rewrite ^ /2b break;
            proxy_pass http://itself; proxy_http_version 1.1; proxy_method GET; proxy_pass_request_body off;
            proxy_set_header Connection ""; proxy_set_header Content-Length "";
        }}
    }}
}}
"""
NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_max_body_size 0;
    proxy_request_buffering off; proxy_max_temp_file_size 0; client_body_buffer_size 64k;
    upstream origin {{ server unix:{folder}/origin; keepalive 200; keepalive_requests 1000000000; keepalive_timeout 1h; }}
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""
HAPROXY: Final = """
global
    nbthread 1
    maxconn 1000
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout client 1h
    timeout server 1h
    timeout connect 5s
frontend clients
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    server origin unix@{folder}/origin
"""
REPORT: Final = """
{request}
function done(summary, latency, requests)
    local e = summary.errors
    local errors = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format(
        "\\nreport {{\\"requests\\": %d, \\"bytes\\": %d, \\"us\\": %d, \\"p50\\": %d, \\"p99\\": %d, \\"errors\\": %d}}\\n",
        summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99), errors))
end
"""
POST: Final = 'wrk.method = "POST"; wrk.body = string.rep("{letter}", {size})'
FRESH: Final = """
local number = 0
local head = table.concat({{{lines}}}, "\\r\\n")
function request()
    number = number + 1
    return string.format(head, number, number, number)
end
"""
HEADS: Final = {
    "fresh": ("GET {path} HTTP/1.1", "Host: 127.0.0.1", "X-Fresh: %d", "", ""),
    "browser": (
        "GET {path} HTTP/1.1",
        "Host: shop.example.com",
        "Connection: keep-alive",
        "sec-ch-ua: 'Chromium';v='124', 'Not-A.Brand';v='99'",
        "sec-ch-ua-mobile: ?0",
        "traceparent: 00-4bf92f3577b34da6a3ce9%011d-00f067a%09d-01",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Mode: cors",
        "Referer: https://shop.example.com/orders?page=2",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
        "Cookie: session=5f2e1c9b7a%010d; consent=yes; theme=dark",
        "",
        "",
    ),
}
"""Heads that differ from request to request by three numbers, or one."""


class Wrong(Exception):
    """An answer was not what it must be: what was measured is worth nothing."""


class Case(NamedTuple):
    """One kind of request: `size` is that of the answer to GET, and of the request's body with POST. With `heads`
    (one of `HEADS`) no head of a request or an answer is like another."""

    method: str
    size: str
    connections: int
    heads: str = ""

    @property
    def path(self) -> str:
        if self.heads:
            return "fresh"
        return self.size if self.method == "GET" or self.size == "2b" else "upload"

    @property
    def answer(self) -> bytes:
        return BODIES[self.size if self.method == "GET" else "2b"]

    @property
    def body(self) -> bytes:
        return b"" if self.method == "GET" else BODIES[self.size]

    def __str__(self) -> str:
        size = {"2b": "2 B", "10k": "10 KB", "1m": "1 MB"}[self.size]
        heads = {"": "", "fresh": ", no head twice", "browser": ", a browser's heads, none twice"}[self.heads]
        return f"{self.method} {size}{heads}, {self.connections} connection{'s' if self.connections > 1 else ''}"


class Run(NamedTuple):
    """What one run of wrk showed. `cpu_us`: what the proxy used for each request; 0 where there is none."""

    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float


def cpu_s(pid: int, thread: int = 0) -> float:
    """Seconds of CPU that a process has used, or one of its threads."""
    place = f"{pid}/task/{thread}" if thread else f"{pid}"
    fields = Path(f"/proc/{place}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@dataclass
class Target:
    """Something that answers on `port` under `prefix`; `pid` is the process whose CPU time counts (0: none)."""

    name: str
    port: int
    prefix: str
    pid: int

    def cpu_s(self) -> float:
        """Seconds of CPU that the process has used."""
        return cpu_s(self.pid) if self.pid else 0.0

    def probe(self, case: Case) -> None:
        """Ask once, as a careful client would. Raises Wrong."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(case.method, f"{self.prefix}/{case.path}", case.body or None)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200 or body != case.answer:
                raise Wrong(f"{self.name}: {case}: {response.status} {body[:80]!r}")


class Lab:
    """All targets, of one origin whose count of requests tells whether each was answered there."""

    def __init__(self, folder: Path, targets: dict[str, Target]) -> None:
        self.folder = folder
        self.targets = targets

    def counted(self) -> int:
        """How many requests the origin has seen, this one among them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.targets["direct"].port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/count")
            return int(connection.getresponse().read().split(b"\n")[2].split()[2])

    def settled(self) -> int:
        """The same, once nothing of an earlier run comes any more."""
        before, now = -1, self.counted()
        while now != before + 1:
            time.sleep(0.05)
            before, now = now, self.counted()
        return now

    def load(self, target: Target, case: Case, seconds: float, *, at_origin: bool = True) -> Run:
        """Let wrk load `target`; every request must have been answered in full, by the origin unless told otherwise."""
        before, cpu_before = self.settled(), target.cpu_s()
        report = wrk(self.folder, target.port, f"{target.prefix}/{case.path}", case, seconds)
        used_s, seen = target.cpu_s() - cpu_before, self.counted() - before - 1
        requests = report["requests"]
        if case.path == "upload":
            seen //= 2  # the origin asks itself
        if at_origin and not requests <= seen <= requests + 2 * case.connections:
            raise Wrong(f"{target.name}: {case}: {requests} answers, but {seen} requests at the origin")
        return Run(requests / report["us"] * 1e6, report["p50"], report["p99"], used_s / requests * 1e6)


def wrk(folder: Path, port: int, path: str, case: Case, seconds: float) -> dict[str, int]:
    """Run wrk; returns requests, bytes, us, p50, p99. Raises Wrong when an answer failed or fell short."""
    script = folder / "report.lua"
    request = ""
    if case.heads:
        request = FRESH.format(lines=", ".join(json.dumps(line.format(path=path)) for line in HEADS[case.heads]))
    if case.body:
        request = POST.format(letter=chr(case.body[0]), size=len(case.body))
    script.write_text(REPORT.format(request=request))
    # wrk takes whole seconds only; after a signal it reports early
    command = [
        "wrk",
        "-t1",
        f"-c{case.connections}",
        "-d1h",
        "--timeout",
        "10s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}{path}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(2)
        out, _ = process.communicate(timeout=30)
    line = next((line for line in out.splitlines() if line.startswith("report ")), "")
    if not line:
        raise Wrong(f"wrk says: {out}")
    report: dict[str, int] = json.loads(line.removeprefix("report "))
    if report["errors"] or not report["requests"] or report["bytes"] < report["requests"] * len(case.answer):
        raise Wrong(f"{path}: {case}: {report}")
    return report


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """Start everything in `folder`, whose path must be short enough for Unix sockets."""
    folder.chmod(0o755)  # nginx's worker may be another user
    for name, body in BODIES.items():
        (folder / name).write_bytes(body)
    prefix = f"/function/{FUNCTION}"
    with contextlib.ExitStack() as stack:
        ports = {name: free_port() for name in ("direct", "nginx", "haproxy")}
        start(stack, nginx(folder, "origin", ORIGIN, ports["direct"]), ports["direct"])
        (folder / "origin").chmod(0o666)
        proxy = start(stack, nginx(folder, "nginx", NGINX, ports["nginx"]), ports["nginx"])
        config = folder / "haproxy.conf"
        config.write_text(HAPROXY.format(folder=folder, port=ports["haproxy"]))
        haproxy = start(stack, ["haproxy", "-db", "-q", "-f", str(config)], ports["haproxy"])
        edge = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.invocation_edge", folder / "origin"], stdout=subprocess.PIPE, text=True
        )
        stack.callback(end, edge)
        assert edge.stdout is not None
        port = int(edge.stdout.readline())
        yield Lab(
            folder,
            {
                "direct": Target("direct", ports["direct"], "", 0),
                "nginx": Target("nginx", ports["nginx"], prefix, only_child(proxy)),
                "HAProxy": Target("HAProxy", ports["haproxy"], prefix, haproxy),
                "Pinnace": Target("Pinnace", port, prefix, edge.pid),
            },
        )


def nginx(folder: Path, name: str, config: str, port: int) -> list[str]:
    """Write a configuration; returns the command that serves it."""
    path = folder / f"{name}.conf"
    path.write_text(config.format(folder=folder, port=port, prefix=f"/function/{FUNCTION}"))
    return ["nginx", "-e", f"{folder}/{name}.log", "-p", str(folder), "-c", str(path)]


def start(stack: contextlib.ExitStack, command: list[str], port: int) -> int:
    """Start a server that ends with `stack`, and wait until it listens. Returns its process id."""
    process = subprocess.Popen(command)
    stack.callback(end, process)
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.connect()
            return process.pid
        if process.poll() is not None or time.monotonic() > deadline:
            raise Wrong(f"{command[0]} does not listen")
        time.sleep(0.02)


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Stop a server that was started here."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def only_child(pid: int) -> int:
    """The one worker of an nginx."""
    deadline = time.monotonic() + 5
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(children) == 1:
            return int(children[0])
        if time.monotonic() > deadline:
            raise Wrong(f"nginx has {len(children)} workers")
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
