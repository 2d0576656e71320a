"""What an import may leave behind in a process that is to be forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime-templates" / "_python"


def judged(source: str) -> str:
    """Return what is said of a process that runs `source` as its import."""
    program = f"""
import sys; sys.path.append({str(RUNTIME)!r})
import os
from pinnace_runtime.fitness import Before
own = os.memfd_create('own')
before = Before((own,))
exec({source!r})
print(before.unfit())
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "import json, decimal, logging, threading, asyncio, random, uuid, ssl, socket",
        "kept = open('/dev/urandom', 'rb')",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import subprocess; subprocess.run(['true'])",
        "import subprocess, time; done = subprocess.Popen(['true']); time.sleep(0.2)",
        "import mmap; mmap.mmap(-1, 4096).close()",
        "os.close(0)",
        "import asyncio; loop = asyncio.new_event_loop(); loop.close()",
    ],
)
def test_what_is_over_or_shared_by_nature_is_fit(source: str) -> None:
    assert judged(source) == ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("os.close(own)", "its import closes files that it did not open"),
        ("os.dup2(os.memfd_create('other'), own)", "its import closes files that it did not open"),
        ("import _thread, time; _thread.start_new_thread(time.sleep, (60,))", "its import starts a thread outside of Python"),
        ("import multiprocessing; kept = multiprocessing.Value('i')", "its import leaves"),
        ("kept = os.pipe()", "its import leaves pipe:"),
        ("import select; kept = select.epoll()", "its import leaves an event loop open"),
        ("kept = open('/etc/hostname')", "its import leaves /etc/hostname open"),
    ],
)
def test_what_a_fork_would_lose_or_share_is_named(source: str, reason: str) -> None:
    assert judged(source).startswith(reason)
