"""A real Redis server on a Unix socket in a folder of its own, which a test starts, kills and starts again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from gateway.asynchronous.redis.settings import RedisSettings

STARTED_WITHIN_S = 20.0


class RedisServer:
    """Running while entered. `options` are lines of its configuration; `fsync` is its `appendfsync`, none: no log at all."""

    def __init__(self, *, fsync: str = "always", port: int = 0, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pinnace-redis-"))
        self.path = self.folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None
        log = {"appendonly": "yes", "appendfsync": fsync} if fsync else {"appendonly": "no"}
        self._options = {"maxmemory-policy": "noeviction", "save": "", "port": str(port)} | log | options

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(url=f"unix://{self.path}", timeout_s=5)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def launch(self) -> None:
        """Start it; it may not answer yet."""
        given = [word for name, value in self._options.items() for word in (f"--{name.replace('_', '-')}", value)]
        self.process = subprocess.Popen(
            ["redis-server", "--unixsocket", str(self.path), "--dir", str(self.folder), *given],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        end = time.monotonic() + STARTED_WITHIN_S
        while self.command("PING") != b"+PONG\r\n":
            assert self.process is not None and self.process.poll() is None, "redis-server has ended"
            assert time.monotonic() < end, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def command(self, *words: str) -> bytes:
        """Return what it says, as it says it; empty when it is not there."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.path))
            told = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (word.encode() for word in words))
            connection.sendall(b"*%d\r\n%s" % (len(words), told))
            return connection.recv(65536)
        return b""

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it stand still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def needs_redis() -> None:
    """Skip where there is no redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
