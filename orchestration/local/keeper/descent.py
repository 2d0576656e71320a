"""Which processes descend from which, and ending whole descents.

A process that is to be ended may be forking at the same time. So a descent is first stopped: a stopped process makes no more
children. Each process is stopped before its children are looked up, which is quicker than a fork, so that this runs down
even a chain of processes that each fork the next; a look at all of /proc takes longer and comes after, until it finds no
member that still runs. Then all are killed.
"""

# The keeper does without pathlib: it stays small.
# ruff: noqa: PTH110, PTH123, PTH208
from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

PASSES = 100
HALTED_WITHIN_S = 0.05
_CAN_LIST_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def processes() -> dict[int, tuple[int, str]]:
    """Return `pid → (parent's pid, state letter)` of every process that can be seen (proc(5), /proc/PID/stat)."""
    found: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                stat = file.read()
        except OSError:  # it ended meanwhile
            continue
        state, parent = stat[stat.rindex(b")") + 2 :].split(None, 2)[:2]
        found[int(name)] = (int(parent), state.decode())
    return found


def parent(pid: int) -> int | None:
    """Return the pid of a process's parent, None when it has ended and was waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split(None, 2)[1])
    except OSError:
        return None


def children(parent: int) -> list[int]:
    """Return the pids of all children of the process `parent`, zombies included."""
    if _CAN_LIST_CHILDREN:
        return _listed_children(parent)
    return [pid for pid, (above, _) in processes().items() if above == parent]


def _listed_children(parent: int) -> list[int]:
    """Return the children of a process's main thread; none where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    try:
        with open(f"/proc/{parent}/task/{parent}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def descendants(roots: Iterable[int], table: dict[int, tuple[int, str]]) -> set[int]:
    """Return the pids in `table` that are among `roots` or descend from them."""
    below: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        below.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(below.get(pid, ()))
    return found


def end(roots: Iterable[int]) -> set[int]:
    """Kill `roots` and all that descend from them; return the pids that were killed. The caller never is among them."""
    roots, spared = set(roots), {os.getpid(), 1}
    halted: set[int] = set()
    for _ in range(PASSES):
        table = processes()
        running = {pid for pid in descendants(roots | halted, table) - spared - halted if table[pid][1] not in "ZX"}
        if not running:
            break
        while running:
            pid = running.pop()
            send(pid, signal.SIGSTOP)
            _await_halt(pid)
            halted.add(pid)
            running.update(below for below in _listed_children(pid) if below not in halted and below not in spared)
    for pid in halted:
        send(pid, signal.SIGKILL)
    return halted


def _await_halt(pid: int) -> None:
    """Return when the process has stopped or ended: until then a fork may be under way. One deep in the kernel is let be."""
    deadline = time.monotonic() + HALTED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split(None, 1)[0] in (b"T", b"t", b"Z", b"X"):
                    return
        except OSError:
            return


def send(pid: int, number: int) -> None:
    """Send a signal; a process that has ended, or that is no longer ours, is left alone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
