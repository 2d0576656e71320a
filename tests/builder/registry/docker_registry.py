"""Debian's docker-registry on loopback, for as long as a context lasts; tests are skipped loudly where it cannot be had."""

from __future__ import annotations

import contextlib
import functools
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"
START_S = 10.0


@functools.cache
def program(name: str, package: str | None = None) -> str:
    """Return where a program of a Debian package is, installed if need be; skips the test where it cannot be."""
    if shutil.which(name) is None:
        subprocess.run([SCRIPTS / "apt", package or name], check=False)
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not here and could not be installed: apt-get install {package or name}")
    return path


@contextlib.contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Serve a registry whose files are in `folder`; yields its `HOST:PORT`."""
    registry = program("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([registry, "serve", config], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
