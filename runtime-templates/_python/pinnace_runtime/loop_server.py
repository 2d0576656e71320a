"""Serves coroutines and ASGI applications on an event loop: uvloop's where the user's requirements bring it.

SIGTERM is as in `thread_server`: connections in the listener's backlog are taken in, the reading side of idle ones is
shut, calls in flight finish, then the application's own shutdown runs.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pinnace_runtime.asgi import Application
from pinnace_runtime.lifespan import Lifespan
from pinnace_runtime.loop_connection import LoopConnection
from pinnace_runtime.settings import Settings
from pinnace_runtime.thread_server import FEWEST_CONNECTIONS, FIRST_CALL_WITHIN_S, KEEP_ALIVE_S, probe_answer

_new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):
    import uvloop

    _new_loop = uvloop.new_event_loop

SWEEP_EVERY_S = 30.0
CANCELLED_WITHIN_S = 1.0
ACCEPT_AGAIN_AFTER_S = 0.05


def serve_on_loop(
    application: Application, code: str, listener: _socket.socket, settings: Settings, ready: Callable[[], None]
) -> bool:
    """Serve until SIGTERM or SIGINT, then drain. Whether every call was finished. Raises LoadFailed, also for the lifespan.

    The loop is not closed: the process ends next, and closing would wait for threads that blocking code still holds.
    """
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    server = LoopServer(application, socket.socket(fileno=listener.detach()), settings)
    return loop.run_until_complete(server.serve(ready, code))


class LoopServer:
    """Runs `application` for each call on each connection that `listener` accepts."""

    def __init__(self, application: Application, listener: socket.socket, settings: Settings) -> None:
        self.application = application
        self.http_only = bool(getattr(application, "http_only", False))
        self.settings = settings
        self.draining = False
        self.connections: set[LoopConnection] = set()
        self.state: dict[str, Any] = {}
        self.address = _address(listener)
        self._listener = listener
        self._free_slots = settings.max_inflight
        self._most_connections = max(FEWEST_CONNECTIONS, 2 * settings.max_inflight)
        self._accepting = False
        self._opening: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._signals = 0
        self._changed = asyncio.Event()

    async def serve(self, ready: Callable[[], None], code: str) -> bool:
        """Start the application, serve, drain, end the application. Whether every call was finished."""
        loop = asyncio.get_running_loop()
        lifespan = Lifespan(self.application, code)
        if not self.http_only:
            await lifespan.start()
        self.state = lifespan.state
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        self._listener.setblocking(False)
        self._accept_more()
        ready()
        while not self._signals:
            try:
                await asyncio.wait_for(self._changed.wait(), SWEEP_EVERY_S)
            except TimeoutError:
                self._sweep()
            self._changed.clear()
        finished = await self._drain()
        await lifespan.stop()
        await _cancel_all()
        return finished

    def probe(self, path: bytes) -> tuple[int, str] | None:
        """Return the answer to a health or readiness probe, or None when `path` is the function's own."""
        return probe_answer(path, draining=self.draining)

    def take_slot(self) -> bool:
        """Take one of the `max_inflight` places for calls. False when none is free."""
        if self.settings.max_inflight:
            if self._free_slots == 0:
                return False
            self._free_slots -= 1
        return True

    def free_slot(self) -> None:
        self._free_slots += 1

    def start_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def changed(self) -> None:
        """A connection or a call has ended."""
        if self.draining:
            self._changed.set()
        elif not self._accepting:
            self._accept_more()

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._opening.discard(task)
        self.changed()

    def _signalled(self) -> None:
        self._signals += 1
        self._changed.set()

    def _accept_more(self) -> None:
        if not self._accepting and len(self.connections) < self._most_connections and not self.draining:
            self._accepting = True
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept_no_more(self) -> None:
        if self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _accept(self) -> bool:
        """Take in one connection. False when none waits."""
        if len(self.connections) + len(self._opening) >= self._most_connections:
            self._accept_no_more()
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            # Out of descriptors or memory: the client waits in the backlog until others have ended.
            if not isinstance(error, BlockingIOError | ConnectionError):
                self._accept_no_more()
                asyncio.get_running_loop().call_later(ACCEPT_AGAIN_AFTER_S, self._accept_more)
            return False
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: LoopConnection(self, sock), sock))
        self._opening.add(task)
        task.add_done_callback(self._task_done)
        return True

    async def _drain(self) -> bool:
        self.draining = True
        self._accept_no_more()
        while self._accept():
            pass
        self._listener.close()
        for connection in list(self.connections):
            connection.going_away()
        if self._opening:
            await asyncio.wait(self._opening, timeout=FIRST_CALL_WITHIN_S)
        began = time.monotonic()
        for connection in [c for c in self.connections if c.idle and c.served]:
            connection.shut_reading()
        first_call_by = began + FIRST_CALL_WITHIN_S
        give_up_at = began + self.settings.exec_timeout_s
        while (self.connections or self._tasks) and self._signals < 2:
            now = time.monotonic()
            if now >= first_call_by:
                for connection in [c for c in self.connections if c.idle]:
                    connection.shut_reading()
                first_call_by = float("inf")
            if now >= give_up_at:
                break
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, min(first_call_by, give_up_at) - now))
            except TimeoutError:
                continue
            self._changed.clear()
        return not (self.connections or self._tasks)

    def _sweep(self) -> None:
        """End connections that have been idle for longer than any proxy keeps them."""
        oldest = time.monotonic() - KEEP_ALIVE_S
        for connection in [c for c in self.connections if c.idle and c.idle_since < oldest]:
            connection.shut_reading()


def _address(listener: socket.socket) -> tuple[str, int | None] | None:
    """The ASGI scope's `server`."""
    name = listener.getsockname()
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name, None) if isinstance(name, str) and name else None


async def _cancel_all() -> None:
    """Let tasks that the application left behind run their `finally` blocks."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCELLED_WITHIN_S)
