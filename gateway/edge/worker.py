"""The process of one edge among several: does what the control process says, and ends with it.

Its only argument is the number of a socket to the control process (`fleet`). What comes there, in order: settings, all
that exists, the word to listen, then changes. The end of the link is the end of the process, so that nothing is left
when the control process is killed; signals are the control process's to act on.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Final

import msgspec
import uvloop

from gateway.edge.edge import Edge
from gateway.edge.link import Link
from gateway.edge.messages import (
    CannotListen,
    Configure,
    Drain,
    Drained,
    Grant,
    Listen,
    Listening,
    Ping,
    Pong,
    Recall,
    Released,
    ToEdge,
)
from gateway.edge.report import Report
from telemetry import logs

COUNT_EVERY_S: Final = 0.1
_decoder: Final = msgspec.msgpack.Decoder(ToEdge)


class Worker:
    """Runs the edge that the other end of `sock` describes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._over = asyncio.Event()
        self._link = Link(_decoder, self._hear, self._over.set, self._tell_held)
        self._report = Report(self._link.send, lambda: self._link.writable)
        self._edge: Edge | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the link ends."""
        await self._link.open(self._sock)
        counting = asyncio.create_task(self._count())
        try:
            await self._over.wait()
        finally:
            for task in (counting, *self._tasks):
                task.cancel()
            await asyncio.wait((counting, *self._tasks))
            if self._edge is not None:
                await self._edge.stop()

    # what the control process says

    def _hear(self, message: ToEdge) -> None:
        match message:
            case Configure(settings, control, log_format, acceptor):
                logs.configure(log_format)
                self._edge = Edge(
                    settings,
                    control=control,
                    on_load=self._report.load,
                    on_released=lambda replica: self._link.send(Released(replica)),
                    on_slots=self._link.send,
                    acceptor=acceptor,
                )
            case Ping(number):
                self._link.send(Pong(number))
            case Listen():
                self._start(self._listen())
            case Drain(timeout_s):
                self._start(self._drain(timeout_s))
            case Grant() | Recall():
                self._configured.share(message)
            case event:
                self._configured.apply(event)

    @property
    def _configured(self) -> Edge:
        assert self._edge is not None, "the first message describes the edge"
        return self._edge

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        try:
            await self._configured.start()
        except OSError as error:
            self._link.send(CannotListen(error.errno or 0, error.strerror or str(error)))
        else:
            self._link.send(Listening())

    async def _drain(self, timeout_s: float) -> None:
        whole = await self._configured.drain(timeout_s)
        self._report.tell(self._configured)
        self._link.send(Drained(whole))

    def _tell_held(self) -> None:
        self._report.tell_held()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            if self._link.writable and self._edge is not None:
                self._report.tell(self._edge)


def main() -> None:
    """Run the edge at the other end of the socket whose number is the argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(sock).run())


if __name__ == "__main__":
    main()
