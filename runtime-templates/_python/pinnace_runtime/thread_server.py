"""Serves blocking handlers: the main thread accepts connections, each of which has a thread of its own.

At SIGTERM nothing that was accepted is lost: connections still in the listener's backlog are taken in, calls in flight
finish, and the reading side of idle connections is shut, after which their threads still find and serve what
had arrived. A connection that never brought a call gets a moment for its first. A second signal ends the wait.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module beneath signal, which typeshed does not describe
import _socket
import _thread
import os
import select
import sys
import time

from pinnace_runtime.deadlines import Deadlines
from pinnace_runtime.settings import Settings
from pinnace_runtime.thread_connection import Connection

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pinnace_runtime.http1 import Request
    from pinnace_runtime.reply import Reply

# Longer than a proxy in front keeps its idle connections, so that it is the proxy that closes them.
KEEP_ALIVE_S = 600
STALLED_CLIENT_S = 60
FIRST_CALL_WITHIN_S = 1.0
FEWEST_CONNECTIONS = 1024
GIVES_WAY_AFTER_S = 1.0
ROOM_WITHIN_S = 0.01
THREAD_STACK_BYTES = 512 * 1024
THREAD_BYTES = 768 * 1024
FEWEST_THREADS = 8


class Body:
    """Collects a request's body in memory: the usual one of `ThreadServer`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.append = self._pieces.append

    def whole(self) -> bytes:
        return b"".join(self._pieces)


class ThreadServer:
    """Calls `respond(request, body)` in a thread for each connection that `listener` accepts.

    `respond` may raise: InvalidReply is logged as one line, anything else with its traceback; both answer 500.
    `new_body` makes what collects a body that does not arrive with its head: `append(piece)`, then `whole()`.
    """

    def __init__(
        self,
        listener: _socket.socket,
        respond: Callable[[Request, Any], Reply],
        settings: Settings,
        *,
        new_body: Callable[[], Any] = Body,
    ) -> None:
        self.respond = respond
        self.new_body = new_body
        self.settings = settings
        self.draining = False
        self.idle: set[Connection] = set()
        self.deadlines = Deadlines(Connection.expire)
        # A list is a semaphore without a lock of its own: pop and append are atomic.
        self._slots: list[None] | None = [None] * settings.max_inflight if settings.max_inflight else None
        self._listener = listener
        self._connections: set[Connection] = set()
        self._most_connections = max(FEWEST_CONNECTIONS, 2 * settings.max_inflight)
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signals = 0

    def serve(self, ready: Callable[[], None]) -> bool:
        """Serve until SIGTERM or SIGINT, then drain. Whether every call was finished. Call it in the main thread."""
        _signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGINT):
            _signal.signal(number, self._signalled)
        self._most_connections = min(self._most_connections, _most_threads())
        self._listener.settimeout(0)
        self.deadlines.start()
        ready()
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        poll.register(self._listener.fileno(), select.POLLIN)
        while not self._signals:
            for fd, _ in poll.poll():
                if fd == self._wake_r:
                    self._take_wakes()
                elif len(self._connections) < self._most_connections:
                    self._accept()
                else:
                    self._make_room()
        return self._drain()

    def probe(self, path: bytes) -> tuple[int, str] | None:
        """Return the answer to a health or readiness probe, or None when `path` is the function's own."""
        return probe_answer(path, draining=self.draining)

    def take_slot(self) -> bool:
        """Take one of the `max_inflight` places for calls. False when none is free."""
        if self._slots is not None:
            try:
                self._slots.pop()
            except IndexError:
                return False
        return True

    def free_slot(self) -> None:
        if self._slots is not None:
            self._slots.append(None)

    def ended(self, connection: Connection) -> None:
        """Forget a connection; its thread is about to end."""
        self._connections.discard(connection)
        self.idle.discard(connection)
        if self.draining:
            self._wake()

    def _accept(self) -> bool:
        """Take in one connection. False when none waits."""
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # beneath accept()
        except OSError as error:
            # Out of descriptors or memory: the client waits in the backlog until others have ended.
            if not isinstance(error, BlockingIOError | ConnectionError):
                time.sleep(0.05)
            return False
        sock = _socket.socket(fileno=fd)
        sock.settimeout(None)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, _timeval(KEEP_ALIVE_S))
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _timeval(STALLED_CLIENT_S))
        if sock.family != _socket.AF_UNIX:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        connection = Connection(self, sock)
        self._connections.add(connection)
        try:
            _thread.start_new_thread(connection.run, ())
        except (RuntimeError, MemoryError):  # no more threads: this client is refused, the others are served
            self._connections.discard(connection)
            sock.close()
        return True

    def _make_room(self) -> None:
        """A client waits and there are as many as can be: one that is idle gives way. While none is, it goes on waiting."""
        idle_before = time.monotonic() - GIVES_WAY_AFTER_S
        for connection in self.idle.copy():
            if connection.idle_since < idle_before:
                self.idle.discard(connection)
                connection.shut_reading()
                break
        time.sleep(ROOM_WITHIN_S)

    def _drain(self) -> bool:
        self.draining = True
        while self._accept():
            pass
        self._listener.close()
        began = time.monotonic()
        self._shut_idle(served=True)
        first_call_by = began + FIRST_CALL_WITHIN_S
        give_up_at = began + self.settings.exec_timeout_s
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        while self._connections and self._signals < 2:
            now = time.monotonic()
            if now >= first_call_by:
                self._shut_idle(served=False)
                first_call_by = float("inf")
            if now >= give_up_at:
                break
            poll.poll(1000 * max(0.0, min(first_call_by, give_up_at) - now) + 1)
            self._take_wakes()
        return not self._connections

    def _shut_idle(self, *, served: bool) -> None:
        for connection in self.idle.copy():
            if not served or connection.served:
                self.idle.discard(connection)
                connection.shut_reading()

    def _signalled(self, number: int, frame: object) -> None:
        self._signals += 1

    def _wake(self) -> None:
        try:
            os.write(self._wake_w, b"e")
        except BlockingIOError:
            return  # full of wakes already

    def _take_wakes(self) -> None:
        try:
            while os.read(self._wake_r, 4096):
                pass
        except BlockingIOError:
            return


def probe_answer(path: bytes, *, draining: bool) -> tuple[int, str] | None:
    """Return status and text of the answer to a probe, or None when `path` is the function's own."""
    if path == b"/_/health":
        return 200, "OK\n"
    if path == b"/_/ready":
        return (503, "draining\n") if draining else (200, "OK\n")
    return None


def _most_threads() -> int:
    """How many connections there is room for. RLIMIT_DATA counts stacks whole, 8 MiB each: under it threads get small ones."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    _thread.stack_size(THREAD_STACK_BYTES)
    return max(FEWEST_THREADS, limit // 2 // THREAD_BYTES)


def _timeval(seconds: int) -> bytes:
    return seconds.to_bytes(8, sys.byteorder) + bytes(8)
