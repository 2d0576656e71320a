"""A replica under test, and a client that speaks to it over its socket."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Protocol

LISTEN_FD, NOTIFY_FD = 3, 4
RUNTIMES = Path(__file__).parents[2] / "runtime-templates"
ENTRY = RUNTIMES / "_python" / "pinnace_runtime" / "__main__.py"
NODE_ENTRY = RUNTIMES / "_node" / "pinnace_runtime" / "main.js"
NODE = shutil.which("node") or "node"
WITHIN_S = 20.0


class StartReplica(Protocol):
    def __call__(self, handler: str, template: str = ..., *, tcp: bool = ..., **environment: str) -> Replica: ...


class Replica:
    """The process, its socket, its notify pipe and its log."""

    def __init__(
        self,
        folder: Path,
        handler: str,
        template: str,
        *,
        tcp: bool,
        environment: dict[str, str],
        python: str = sys.executable,
    ) -> None:
        (folder / "function").mkdir(parents=True, exist_ok=True)
        file = {"node": "handler.js", "node-module": "handler.mjs", "classic": "handler.sh"}.get(template, "handler.py")
        (folder / "function" / file).write_text(handler)
        self.folder = folder
        self._sockets = tempfile.TemporaryDirectory(prefix="pn-")  # short: a Unix socket's path has at most 108 bytes
        self._command = [NODE, str(NODE_ENTRY)] if template.startswith("node") else [python, "-I", str(ENTRY), template]
        self._log = folder / "log"
        self._clients: list[socket.socket] = []
        self.address: str | tuple[str, int]
        self._listener = socket.socket() if tcp else socket.socket(socket.AF_UNIX)
        self._listener.bind(("127.0.0.1", 0) if tcp else f"{self._sockets.name}/s")
        self._listener.listen(100)
        self.address = self._listener.getsockname()
        self._environment = environment
        self._start()

    def _start(self) -> None:
        notify_r, notify_w = os.pipe()
        handed = {LISTEN_FD: self._listener.fileno(), NOTIFY_FD: notify_w}
        contract = {"PINNACE_LISTEN_FD": str(LISTEN_FD), "PINNACE_NOTIFY_FD": str(NOTIFY_FD)}

        def hand_down() -> None:
            """Give the descriptors the numbers that they have with the platform: Node keeps no higher one from children."""
            held = {number: os.dup(fd) for number, fd in handed.items()}  # one may have the other's number
            for other in (int(path.name) for path in Path("/proc/self/fd").iterdir()):
                with contextlib.suppress(OSError):
                    os.set_inheritable(other, other <= 2)  # the tests may have inherited some themselves
            for number, fd in held.items():
                os.dup2(fd, number)

        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "PINNACE_LOG_FRAMES": "1", **contract, **self._environment},
                close_fds=False,
                preexec_fn=hand_down,  # noqa: PLW1509 - nothing here holds a lock at that time
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        os.close(notify_w)
        with os.fdopen(notify_r, "rb") as pipe:
            line = pipe.readline()
        self.notified: dict[str, Any] = json.loads(line) if line else {}

    @property
    def log(self) -> list[str]:
        """The lines written so far, with `CALL-ID|` for a frame."""
        return self._log.read_bytes().decode().replace("\x1e", "").replace("\x1f", "|").splitlines()

    def wait_for_log(self, line: str) -> None:
        wait_until(lambda: line in self.log, f"{line!r} in the log")

    def connect(self) -> socket.socket:
        client = socket.socket(self._listener.family)
        client.settimeout(WITHIN_S)
        client.connect(self.address)
        self._clients.append(client)
        return client

    def send(self, data: bytes, *, client: socket.socket | None = None) -> bytes:
        """Send bytes as they are and return all that comes until the replica ends the connection."""
        client = client or self.connect()
        client.sendall(data)
        return read_all(client)

    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> HTTPResponse:
        """Send a call on a connection of its own and return its response as soon as its head is here."""
        connection = HTTPConnection("replica")
        connection.sock = self.connect()
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse()

    def call(self, path: str = "/", body: bytes | None = None, *, method: str = "", **headers: str) -> Answer:
        with self.open(method or ("GET" if body is None else "POST"), path, body, **headers) as response:
            return Answer(response.status, response.read(), dict(response.getheaders()))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.process.wait(WITHIN_S)

    def end(self) -> None:
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WITHIN_S)
        self._listener.close()
        self._sockets.cleanup()


class Answer:
    """A response: its `headers` by lower-case name."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = {name.lower(): value for name, value in headers.items()}


def read_all(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def wait_until(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + WITHIN_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {WITHIN_S:g} s: {what}")
        time.sleep(0.01)
