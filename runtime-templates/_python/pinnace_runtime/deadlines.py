"""The one thread that answers for calls which run too long.

A blocking handler cannot be stopped. When its time is up, this thread takes the call from the book of calls in flight,
which decides who may answer it, and has its connection answered; the handler runs on and keeps its slot.

An idle process costs nothing: with no call in flight the thread sleeps until one wakes it. While it sleeps
until some deadline, later calls with later deadlines need not wake it, so a busy replica wakes it once per timeout.
"""

from __future__ import annotations

import _thread
import time

from pinnace_runtime.settings import parse_duration_s

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable

    from pinnace_runtime.http1 import Request
    from pinnace_runtime.thread_connection import Connection

AFTER_FAULT_S = 0.02

_NEVER = float("inf")


class Deadlines:
    """Calls in flight with the monotonic time at which each is to end. `expire(call)` is called for one taken too late."""

    def __init__(self, expire: Callable[[Connection], None]) -> None:
        self._expire = expire
        self._calls: dict[Connection, float] = {}
        self._wakes_at = _NEVER
        self._alarm = _thread.allocate_lock()
        self._alarm.acquire()
        self._expiring = _thread.allocate_lock()

    def start(self) -> None:
        """Start the thread, which lives as long as the process."""
        _thread.start_new_thread(self._run, ())

    def begin(self, call: Connection, deadline: float) -> None:
        with self._expiring:  # where an earlier one of the same connection is late, it may be just that which ended
            self._calls[call] = deadline
        if deadline < self._wakes_at:
            self._wakes_at = deadline
            self._ring()

    def end(self, call: Connection) -> bool:
        """Take the call from the book. False: its time was up and it is answered already."""
        return self._calls.pop(call, None) is not None

    def settle(self) -> None:
        """Wait until no call is being answered: then a socket can be closed, and its number used for another."""
        with self._expiring:
            return

    def _ring(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:
            return  # it rings already

    def _run(self) -> None:
        while True:
            try:
                self._look()
                if self._wakes_at == _NEVER:
                    self._alarm.acquire()
                else:
                    self._alarm.acquire(timeout=max(0.0, self._wakes_at - time.monotonic()))
            except MemoryError:
                self._alarm.acquire(timeout=AFTER_FAULT_S)

    def _look(self) -> None:
        """Answer what is late, and know when the next call will be."""
        # First the time at which this thread wakes, then the look at the calls: one that begins in between rings.
        announced_at, self._wakes_at = self._wakes_at, _NEVER
        now = time.monotonic()
        calls = self._calls.copy()
        for call, deadline in calls.items():
            if deadline <= now:
                with self._expiring:
                    if self._calls.get(call) == deadline and self.end(call):
                        self._expire(call)
        # The call that rang may have ended by now. Its time is kept all the same, so that the next need not ring.
        next_at = announced_at if announced_at > now else _NEVER
        next_at = min((at for at in calls.values() if now < at < next_at), default=next_at)
        self._wakes_at = min(self._wakes_at, next_at)


def took_longer(what: str, limit_s: float, exec_timeout_s: float) -> str:
    """Return what is said of a call whose time is up: `what` took longer than which limit."""
    whose = "the function's timeout" if limit_s >= exec_timeout_s else "its caller's X-Timeout"
    return f"{what} took longer than {whose}, {limit_s:.6g} s"


def late_line(what: str, limit_s: float, exec_timeout_s: float, mark: str) -> str:
    """Return the log line of a call whose time is up; `mark` is the call's."""
    call_id = mark.partition(" ")[0]
    return f"[pinnace] {took_longer(what, limit_s, exec_timeout_s)}{f' (call {call_id})' if call_id else ''}"


def call_timeout_s(request: Request, exec_timeout_s: float) -> float:
    """The call's own limit: X-Timeout may only shorten the function's; what is no duration is ignored, as in of-watchdog."""
    if not request.timeout:
        return exec_timeout_s
    try:
        wanted_s = parse_duration_s(request.timeout)
    except ValueError:
        return exec_timeout_s
    return min(wanted_s, exec_timeout_s) if wanted_s > 0 else exec_timeout_s
