"""Whether a process may be forked after an import: what a fork would lose or share disqualifies it.

A fork has one thread, no children and no timers, and shares its open files, sockets, event loops and shared memory with
every other fork. Signal handlers, the working folder and files 0 to 2 are no reason: those a fork has like any process.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module beneath signal, which typeshed does not describe
import os
import sys
import time

JOINED_WITHIN_S = 0.1  # `join` returns a moment before the thread is gone
_HARMLESS = frozenset(("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"))
_STANDARD = (0, 1, 2)
_LINE_LIMIT = 200


class Before:
    """The state before the import. `own` are the descriptors that have to be the same ones afterwards."""

    def __init__(self, own: tuple[int, ...]) -> None:
        self._own = {fd: _identity(fd) for fd in own}
        self._open = _open_files()

    def unfit(self) -> str:
        """Return in one line what the import left behind that cannot be forked; empty when nothing is."""
        return (_lost(self._own) or _threads() or _children() or _files(self._open) or _timers() or _shared_memory())[
            :_LINE_LIMIT
        ]


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
    return found


def _lost(own: dict[int, tuple[int, int] | None]) -> str:
    return "its import closes files that it did not open" if any(_identity(fd) != was for fd, was in own.items()) else ""


def _threads() -> str:
    deadline = time.monotonic() + JOINED_WITHIN_S
    while len(tasks := [int(name) for name in os.listdir("/proc/self/task")]) > 1 and time.monotonic() < deadline:
        time.sleep(0.002)
    if len(tasks) == 1:
        return ""
    threading = sys.modules.get("threading")
    named = {thread.native_id: thread.name for thread in threading.enumerate()} if threading else {}
    others = [f"{named[task]!r}" for task in tasks if task in named and task != os.getpid()]
    return f"its import starts a thread{': ' + ', '.join(others) if others else ' outside of Python'}"


def _children() -> str:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ""
        if pid == 0:
            return "its import leaves a child process running"


def _files(before: dict[int, str]) -> str:
    for fd, name in _open_files().items():
        if fd in _STANDARD or name in _HARMLESS or before.get(fd) == name:
            continue
        if name.startswith("socket:"):
            return "its import leaves a socket open"
        if name == "anon_inode:[eventpoll]":
            return "its import leaves an event loop open"
        return f"its import leaves {name} open"
    return ""


def _timers() -> str:
    kinds = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
    return "its import starts a timer" if any(_signal.getitimer(kind)[0] for kind in kinds) else ""


def _shared_memory() -> str:
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            if line.split(None, 2)[1] in (b"rw-s", b"rwxs"):
                return "its import makes shared memory (multiprocessing, mmap)"
    return ""
