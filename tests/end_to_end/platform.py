"""A real platform for tests: `faas serve` in its own data folder, spoken to over HTTP and with the `faas` command."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

FAAS = Path(sys.executable).with_name("faas")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def until(condition: Callable[[], Any], within_s: float = 20.0, every_s: float = 0.02) -> Any:
    """Return the first true value of `condition`; fails the test after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {condition}"
        time.sleep(every_s)


class Platform:
    """`faas serve` on a free port. `home` holds the data folder, the CLI's config and the functions' sources; `command`
    stands for `faas`."""

    def __init__(self, home: Path, *flags: str, command: Sequence[str | Path] = (FAAS,)) -> None:
        self.home = home
        self.command = command
        self.flags = flags
        self.data = home / "data"
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.environment = {**os.environ, "HOME": str(home), "OPENFAAS_CONFIG": str(home / ".openfaas"), "NO_COLOR": "1"}
        self.environment.pop("CI", None)
        self.environment["PINNACE_METRICS_PORT"] = "0"  # several platforms run at the same time

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, role: str = "serve") -> None:
        with (self.home / "platform.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, role, "--port", str(self.port), "--data-dir", self.data, *self.flags],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                cwd=self.home,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://"), line + self.log()
        self.port = int(line.rsplit(":", 1)[1])

    def log(self) -> str:
        return (self.home / "platform.log").read_text()

    def stop(self, within_s: float = 10.0) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        finally:
            self._close()

    def kill(self) -> None:
        """SIGKILL to the platform process alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._close()

    def _close(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None

    def login(self) -> str:
        """The basic-auth header of the login that the first start made."""
        user = (self.data / "basic-auth-user").read_text().strip()
        password = (self.data / "basic-auth-password").read_text().strip()
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        login: bool = True,
        timeout_s: float = 30.0,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            all_headers = dict(headers or {})
            if login and not path.startswith("/function/"):
                all_headers.setdefault("Authorization", self.login())
            connection.request(method, path, body=body, headers=all_headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def call(self, name: str, body: bytes | str | None = b"", path: str = "", **headers: str) -> Answer:
        return self.request("POST", f"/function/{name}{path}", body, {k.replace("_", "-"): v for k, v in headers.items()})

    def faas(self, *arguments: str | Path, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [FAAS, *arguments],
            cwd=self.home,
            env={**self.environment, "OPENFAAS_URL": self.url},
            capture_output=True,
            text=True,
            timeout=120,
            input=stdin,
        )
        assert not check or done.returncode == 0, (
            f"faas {arguments}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
        )
        return done

    def deploy(self, name: str, handler: str, *flags: str, requirements: str = "", lang: str = "python3-http") -> None:
        """Write NAME/handler.py and deploy it."""
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        (folder / "handler.py").write_text(handler)
        (folder / "requirements.txt").write_text(requirements)
        self.faas("deploy", folder, "--name", name, "--lang", lang, *flags)

    def status(self, name: str) -> dict[str, Any]:
        answer = self.request("GET", f"/system/function/{name}")
        assert answer.status == 200, answer
        status: dict[str, Any] = answer.json()
        return status

    def details(self, name: str) -> dict[str, Any]:
        answer = self.request("GET", f"/api/v1/functions/{urllib.parse.quote(name)}")
        assert answer.status == 200, answer
        details: dict[str, Any] = answer.json()
        return details

    def scale(self, name: str, replicas: int) -> None:
        body = json.dumps({"serviceName": name, "replicas": replicas})
        assert self.request("POST", f"/system/scale-function/{name}", body).status == 202

    def pids(self, name: str) -> list[int]:
        return [r["pid"] for r in self.details(name)["replicas"] if r.get("pid")]


@contextmanager
def running(home: Path, *flags: str, command: Sequence[str | Path] = (FAAS,)) -> Iterator[Platform]:
    platform = Platform(home, *flags, command=command)
    platform.start()
    try:
        yield platform
    finally:
        if platform.process is not None:
            platform.stop(20)


def alive(pid: int) -> bool:
    """Whether a process of that id exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
