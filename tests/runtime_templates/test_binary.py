"""The example of a program that serves HTTP itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "runtime-templates" / "binary" / "function" / "handler"


@pytest.mark.parametrize(("variables", "address"), [({"PINNACE_NOTIFY_FD": "3"}, "0100007F"), ({}, "00000000")])
def test_only_a_container_listens_on_all_addresses(variables: dict[str, str], address: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PINNACE_NOTIFY_FD"}
    with subprocess.Popen(
        [sys.executable, EXAMPLE], env=environment | variables | {"PORT": str(port)}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert _body(port) == b"Hello from Pinnace!\n"
            listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"]
            assert f"{address}:{port:04X}" in listening
        finally:
            process.kill()


def _body(port: int) -> bytes:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < deadline, "the example does not answer"
            time.sleep(0.02)
