"""Serves blocking handlers on all connections: one thread leads at a time, the others run calls that take long.

The main thread only waits for signals, so that code of the user's can never keep them from it. At SIGTERM nothing that
was accepted is lost: connections still in the listener's backlog are taken in, calls in flight finish, and the reading
side of idle connections is shut, after which what had arrived is still found and served. A connection that never brought
a call gets a moment for its first. A second signal ends the wait.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module beneath signal, which typeshed does not describe
import _socket
import _thread
import os
import select
import sys
import time
from collections import deque

from pinnace_runtime import logs
from pinnace_runtime.deadlines import Deadlines
from pinnace_runtime.leadership import Leadership
from pinnace_runtime.settings import Settings
from pinnace_runtime.thread_connection import BETWEEN_CALLS, Connection

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pinnace_runtime.http1 import Request
    from pinnace_runtime.reply import Reply

# Longer than a proxy in front keeps its idle connections, so that it is the proxy that closes them.
KEEP_ALIVE_S = 600
STALLED_CLIENT_S = 60
STAYS_S = 1  # a thread with its connection, where calls run apart
FIRST_CALL_WITHIN_S = 1.0
FEWEST_CONNECTIONS = 1024
GIVES_WAY_AFTER_S = 1.0
ROOM_WITHIN_S = 0.02
AFTER_FAULT_S = 0.001
SWEEP_EVERY_S = 30.0
SWITCH_INTERVAL_S = 0.001
THREAD_STACK_BYTES = 512 * 1024
THREAD_BYTES = 768 * 1024
FEWEST_THREADS = 8
EVENTS_AT_ONCE = 64

_NEVER = float("inf")


class Body:
    """Collects a request's body in memory: the usual one of `ThreadServer`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.append = self._pieces.append

    def whole(self) -> bytes:
        return b"".join(self._pieces)


class ThreadServer:
    """Calls `respond(request, body)` for each call on each connection that `listener` accepts.

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
        self.again: deque[Connection] = deque()  # the leader has more of them at hand
        self.deadlines = Deadlines(Connection.expire)
        self.leadership = Leadership(self._lead, self._let_go)
        # A list is a semaphore without a lock of its own: pop and append are atomic.
        self._slots: list[None] | None = [None] * settings.max_inflight if settings.max_inflight else None
        self._listener = listener
        self._connections: dict[int, Connection] = {}
        self._most_connections = max(FEWEST_CONNECTIONS, 2 * settings.max_inflight)
        self._poll = select.epoll()
        self._accepts = False
        self._tidies_at = _NEVER
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # main thread to leader
        self._drains = False  # the leader has been told: nothing is accepted any more
        self._lets_unserved_go = False
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # signals and the leader to main thread
        self._signals = 0

    def serve(self, ready: Callable[[], None]) -> bool:
        """Serve until SIGTERM or SIGINT, then drain. Whether every call was finished. Call it in the main thread."""
        _signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGINT):
            _signal.signal(number, self._signalled)
        # Whoever leads beside a handler that computes waits so long at each system call; Python's own 5 ms are 5 times longer.
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._listener.settimeout(0)
        self._poll.register(self._told, select.EPOLLIN)
        self._accept_more()
        most_threads = _most_threads()
        self.deadlines.start()
        self.leadership.start(most_threads)
        ready()
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        while not self._signals:
            poll.poll()
            self._take_wakes()
        return self._drain(poll)

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

    # Whose a connection is.

    def _let_go(self, connection: Connection) -> None:
        """The connection is its call's thread's from now on. Called under the lock of leadership."""
        self._poll.unregister(connection.fd)
        connection.led = False

    def give_back(self, connection: Connection) -> None:
        """The connection is the leader's again."""
        connection.idle_since = time.monotonic()
        with self.leadership.lock:
            connection.led = True
            try:
                if self._drains and connection.served and connection.phase is BETWEEN_CALLS:
                    connection.shut_reading()
                self._poll.register(connection.fd, select.EPOLLIN)
            except BaseException:
                connection.led = False
                raise

    def forget(self, connection: Connection) -> None:
        """The connection is about to be closed."""
        if self._connections.pop(connection.fd, None) is not None and connection.led:
            # A process that the handler forked may hold the socket open, and epoll would tell of it for ever.
            self._poll.unregister(connection.fd)
        if self.draining and not self._connections:
            self._wake_main()

    # What the leader does.

    def _lead(self) -> None:
        """Serve all connections until this thread leads no more."""
        connections, again, leadership = self._connections, self.again, self.leadership
        connection: Connection | None = None
        fault: BaseException | None = None
        while True:
            try:
                if fault is not None:
                    leads = self._recover(fault, connection)
                    fault = connection = None
                    if not leads:
                        return
                for fd, _ in self._poll.poll(self._patience_s(), 1 if leadership.apart else EVENTS_AT_ONCE):
                    connection = connections.get(fd)
                    if connection is None:
                        self._take_other(fd)
                    elif not connection.take():
                        return
                for _ in range(len(again)):
                    connection = again.popleft()
                    if connection.led and connection.phase is BETWEEN_CALLS and connection.buffer and not connection.serve():
                        return
                connection = None
            except BaseException as error:
                fault = error  # nothing is called here: where memory has run out, a call would fail too

    def _recover(self, fault: BaseException, connection: Connection | None) -> bool:
        """Close the connection that something failed on: its client waits. Whether this thread still leads."""
        if not isinstance(fault, OSError | MemoryError):  # the client left, stood still, sent more than there is room for
            logs.log_exception(fault)  # a fault of this runtime: it costs a connection, not the replica
        if isinstance(fault, MemoryError):
            time.sleep(AFTER_FAULT_S)  # else a leader that lacks memory for this too would do nothing but try
        if connection is None:
            self._rest_from_accepting()
            return True
        self.leadership.forsake(connection)
        connection.close()
        return connection.led

    def _patience_s(self) -> float:
        """How long the leader may wait for something to arrive."""
        if self.again:
            return 0.0
        if self._tidies_at == _NEVER:
            return -1.0
        now = time.monotonic()
        if now >= self._tidies_at:
            self._tidy(now)
            return 0.0
        return self._tidies_at - now

    def _take_other(self, fd: int) -> None:
        """Something that is no connection wants to be looked at."""
        if fd == self._told:
            os.eventfd_read(fd)
            self._do_drain()
        elif self._accepts and fd == self._listener.fileno():
            while len(self._connections) < self._most_connections:
                if not self._accept():
                    return
            self._make_room()

    def _accept(self) -> bool:
        """Take in one connection. False when none waits."""
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # beneath accept()
        except OSError as error:
            # Out of descriptors or memory: the client waits in the backlog until others have ended.
            if not isinstance(error, BlockingIOError | ConnectionError):
                self._rest_from_accepting()
            return False
        try:
            sock = _socket.socket(fileno=fd)
        except BaseException:
            os.close(fd)
            raise
        self.take_in(sock)
        return True

    def take_in(self, sock: _socket.socket) -> Connection:
        """Have the leader serve a connection. Where there is no room for it, it is closed and the exception goes on."""
        connection = None
        try:
            sock.settimeout(None)
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, _timeval(STAYS_S))
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _timeval(STALLED_CLIENT_S))
            if sock.family != _socket.AF_UNIX:
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            connection = Connection(self, sock)
            self._connections[connection.fd] = connection
            self._poll.register(connection.fd, select.EPOLLIN)
        except BaseException:
            if connection is not None:
                self._connections.pop(connection.fd, None)
            sock.close()
            raise
        if self._tidies_at == _NEVER:
            self._tidies_at = connection.idle_since + SWEEP_EVERY_S
        return connection

    def _make_room(self) -> None:
        """A client waits and there are as many as can be: who is idle for the longest gives way. While none is, it waits on."""
        idle_before = time.monotonic() - GIVES_WAY_AFTER_S
        idle = [connection for connection in self._idle() if connection.idle_since < idle_before]
        if idle:
            min(idle, key=lambda connection: connection.idle_since).shut_reading()
        self._rest_from_accepting()

    def _rest_from_accepting(self) -> None:
        if self._accepts:
            self._accepts = False
            self._poll.unregister(self._listener.fileno())
        self._tidies_at = time.monotonic() + ROOM_WITHIN_S

    def _accept_more(self) -> None:
        self._accepts = True
        self._poll.register(self._listener.fileno(), select.EPOLLIN)

    def _tidy(self, now: float) -> None:
        """Accept again after a rest; end what has been idle for longer than any proxy keeps it."""
        if not (self._accepts or self._drains):
            self._accept_more()
        for connection in self._idle():
            if connection.idle_since < now - KEEP_ALIVE_S:
                connection.shut_reading()
        self._tidies_at = now + SWEEP_EVERY_S if self._connections else _NEVER

    def _idle(self) -> list[Connection]:
        return [c for c in list(self._connections.values()) if (c.led or c.stays) and c.phase is BETWEEN_CALLS and not c.buffer]

    def _do_drain(self) -> None:
        if not self._drains:
            while self._accept():
                pass
            self._rest_from_accepting()
            self._listener.close()
            self._drains = True
        for connection in self._idle():
            if connection.served or self._lets_unserved_go:
                connection.shut_reading()
        self._wake_main()

    # What the main thread does.

    def _drain(self, poll: select.poll) -> bool:
        began = time.monotonic()
        self.draining = True
        os.eventfd_write(self._told, 1)
        first_call_by = began + FIRST_CALL_WITHIN_S
        give_up_at = began + self.settings.exec_timeout_s
        while (self._connections or not self._drains) and self._signals < 2:
            now = time.monotonic()
            if now >= first_call_by:
                self._lets_unserved_go = True
                os.eventfd_write(self._told, 1)
                first_call_by = _NEVER
            if now >= give_up_at:
                break
            poll.poll(1000 * max(0.0, min(first_call_by, give_up_at) - now) + 1)
            self._take_wakes()
        return not self._connections

    def _signalled(self, number: int, frame: object) -> None:
        self._signals += 1

    def _wake_main(self) -> None:
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
