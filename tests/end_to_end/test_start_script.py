"""`./scripts/start`, as a stranger runs it: twice, and where the port is taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / ".venv/bin/faas").exists(), reason="scripts/install has not run in this checkout")


def start(home: Path, *flags: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HOME": str(home), "OPENFAAS_CONFIG": str(home / ".openfaas")}
    environment.pop("OPENFAAS_URL", None)
    return subprocess.Popen(
        [ROOT / "scripts/start", "--data-dir", home / "data", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        env=environment,
    )


def test_it_starts_with_an_example_says_what_to_type_and_stops(tmp_path: Path) -> None:
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        with start(tmp_path, "--port", "0") as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl-C stops" in line:
                    break
            seconds.append(time.monotonic() - began)
            text = "".join(lines)
            call = next(line for line in lines if "/function/hello -d" in line)
            with urllib.request.urlopen(call.split()[1], data=b"you", timeout=10) as answer:
                assert answer.read() == b'{"hello": "you"}'
            assert "faas new" in text
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert seconds[1] < 3, "the second start"


def test_what_it_offers_fits_what_is_deployed(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "OPENFAAS_CONFIG": str(tmp_path / ".openfaas")}
    for has_greet in (False, True):
        with start(tmp_path, "--port", "0") as process:
            try:
                text = said_until(process, "Ctrl-C stops")
                url = "http" + text.partition("ready http")[2].split()[0]
                assert ("faas new greet" in text) is not has_greet
                assert "faas logs greet -f" in text
                if has_greet:
                    assert "What was deployed is there again (1): greet\n" in text
                    assert f"    curl {url}/function/greet\n" in text
                    assert "Deployed hello" not in text  # who took the example away does not get it back
                else:
                    for words in (("deploy", ROOT / "docs/examples/hello", "--name", "greet"), ("remove", "hello")):
                        subprocess.run(
                            [ROOT / ".venv/bin/faas", *words, "-g", url], check=True, env=home, cwd=tmp_path, timeout=60
                        )
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def said_until(process: subprocess.Popen[str], words: str) -> str:
    """Return what it wrote up to the line with these words."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {words!r}: {''.join(lines)}")


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with start(tmp_path, "--port", port) as process:
            said, _ = process.communicate(timeout=30)
        assert process.returncode == 1
        assert port in said
        assert "--port" in said
        assert len(said.strip().splitlines()) == 1
