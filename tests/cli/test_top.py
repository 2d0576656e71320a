from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.commands.top import Row, headline, table
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

ROOT = Path(__file__).parent.parent.parent


def row(name: str = "hello", **figures: Any) -> Row:
    return {
        "name": name,
        "namespace": "openfaas-fn",
        "phase": "Ready",
        "message": "",
        "desired": 1,
        "ready": 1,
        "starting": 0,
        "failing": 0,
        "calls": 12,
        "coldStarts": 1,
        "inFlight": 0,
        "waiting": 0,
        "rate": 0.0,
        "minuteCalls": 0,
        "minuteErrors": 0,
        "p50Ms": None,
        "p99Ms": None,
        "recent": [1, 2],
        **figures,
    }


def state(*rows: Row) -> bytes:
    data = json.dumps({"at": 1.0, "functions": list(rows), "removed": []})
    return f"id: x-1\nevent: state\nretry: 2000\ndata: {data}\n\n".encode()


def tells(gateway: Gateway, *rows: Row) -> None:
    gateway.canned["GET /api/v1/events"] = (200, {"Content-Type": "text/event-stream"}, state(*rows))


def test_in_a_pipe_it_prints_once_the_busiest_first(gateway: Gateway, faas: Faas) -> None:
    tells(
        gateway, row("quiet"), row("busy", rate=1234.5, p50Ms=0.84, p99Ms=61.2, minuteErrors=3, inFlight=7, waiting=2, ready=4)
    )
    done = faas("top")
    assert done.code == 0, done.err
    assert [line.split() for line in done.out.splitlines()] == [
        ["FUNCTION", "READY", "RATE", "P50", "P99", "ERRORS", "FLIGHT", "WAITING", "COLD", "CALLS", "STATE"],
        ["busy", "4/1", "1234", "0.84ms", "61ms", "3", "7", "2", "1", "12"],
        ["quiet", "1/1", "0", "-", "-", "0", "0", "0", "1", "12"],
    ]
    assert gateway.asked[-1].query == {"follow": "false"}


def test_for_programs_and_in_another_order(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, row("b", rate=5.0), row("a"))
    rows = json.loads(faas("top", "--json", "--sort", "name", "-n", "dev").out)
    assert [one["name"] for one in rows] == ["a", "b"]
    assert "recent" not in rows[0]
    assert gateway.asked[-1].query["namespace"] == "dev"


def test_a_gateway_that_does_not_tell_is_named(gateway: Gateway, faas: Faas) -> None:
    done = faas("top")
    assert done.code == 1
    assert "faas list" in done.err


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({}, ""),
        ({"ready": 0, "desired": 0}, "at zero"),
        ({"starting": 2}, "2 replicas starting"),
        ({"failing": 1, "message": "handler.py: no module named x"}, "handler.py: no module named x"),
        ({"phase": "Failed"}, "failing"),
    ],
)
def test_a_function_that_is_not_simply_ready_says_why(figures: dict[str, Any], words: str) -> None:
    assert table([row(**figures)], 0)[1].endswith(words or "12")


def test_the_namespace_is_told_where_there_is_more_than_one() -> None:
    assert "hello.dev" in table([row(namespace="dev"), row()], 0)[1]
    assert "hello.dev" not in table([row(namespace="dev")], 0)[1]


def test_the_sum_of_it_all() -> None:
    rows = [row(rate=1.5, minuteErrors=1), row("b", rate=2.0, ready=3)]
    assert headline("http://h", rows, "") == "http://h: 2 functions, 4 replicas, 3.5 calls/s, 1 error in the last minute"
    assert headline("http://h", rows, "no \x1b[31manswer") == "http://h: no  [31manswer"


class Terminal:
    """`faas` in a terminal of its own."""

    def __init__(self, gateway: Gateway, *arguments: str) -> None:
        self.screen, theirs = pty.openpty()
        self.resize(120, 20)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from cli.main import main; main()", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENFAAS_URL": gateway.url, "TERM": "xterm", "NO_COLOR": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        os.set_blocking(self.screen, False)
        self.shown = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, words: str, within_s: float = 20.0) -> str:
        """Read until `words` are shown; return what was."""
        deadline = time.monotonic() + within_s
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            with contextlib.suppress(BlockingIOError):
                self.shown += os.read(self.screen, 65536).decode()
            time.sleep(0.01)
        shown, self.shown = self.shown, ""
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)
        os.close(self.screen)


@pytest.fixture
def terminal(gateway: Gateway) -> Iterator[Terminal]:
    tells(gateway, *(row(f"function-{n:02}", rate=50.0 - n) for n in range(40)))
    made = Terminal(gateway, "top")
    yield made
    made.close()


def test_in_a_terminal_it_fits_follows_the_size_and_leaves_the_screen_as_it_was(terminal: Terminal) -> None:
    first = terminal.until("more: --sort")
    assert first.startswith("\x1b[?1049h\x1b[?25l")
    assert "40 functions" in first
    assert ("function-15" in first, "function-16" in first) == (True, False)
    terminal.resize(60, 10)
    terminal.process.send_signal(signal.SIGWINCH)
    smaller = terminal.until("34 more: --sort")
    assert all(len(line.replace("\x1b[K", "").replace("\x1b[H", "")) <= 60 for line in smaller.split("\r\n")[:-1])
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(5) == 0
    assert terminal.until("\x1b[?1049l").endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize(("width", "last"), [(120, "CALLS  STATE"), (90, "WAITING  STATE"), (70, "WAITING"), (40, "ERRORS")])
def test_a_narrow_terminal_does_without_the_less_important(width: int, last: str) -> None:
    lines = table([row("a-function-of-a-rather-long-name")], width)
    assert lines[0].endswith(last)
    assert all(len(line) <= width for line in lines)
