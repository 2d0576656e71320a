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
from gateway.edge.figures import EdgeFigures
from gateway.edge.link import Link
from gateway.edge.messages import (
    CannotListen,
    Configure,
    Count,
    Counted,
    Drain,
    Drained,
    Grant,
    Listen,
    Listening,
    Load,
    Ping,
    Pong,
    Recall,
    Recorded,
    Released,
    ToEdge,
)
from gateway.edge.tally import Tally
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from telemetry import logs

COUNT_EVERY_S: Final = 0.1
_decoder: Final = msgspec.msgpack.Decoder(ToEdge)


def merged(earlier: LoadSample, later: LoadSample) -> LoadSample:
    """Return one sample for two intervals that follow each other."""
    interval_s = earlier.interval_s + later.interval_s
    area = earlier.concurrency * earlier.interval_s + later.concurrency * later.interval_s
    return msgspec.structs.replace(
        later,
        interval_s=interval_s,
        concurrency=area / interval_s if interval_s > 0 else later.concurrency,
        arrivals=earlier.arrivals + later.arrivals,
    )


class Worker:
    """Runs the edge that the other end of `sock` describes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._over = asyncio.Event()
        self._link = Link(_decoder, self._hear, self._over.set, self._tell_held)
        self._edge: Edge | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[tuple[str, str], LoadSample] = {}
        self._told: dict[FunctionId, tuple[Tally, Tally]] = {}
        self._figures = EdgeFigures()

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
                    on_load=self._on_load,
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
        self._tell_counts()
        self._link.send(Drained(whole))

    # what the edge tells

    def _on_load(self, sample: LoadSample) -> None:
        if self._link.writable:
            self._link.send(Load(sample))
        else:
            key = (sample.namespace, sample.revision)
            before = self._held.get(key)
            self._held[key] = merged(before, sample) if before is not None else sample

    def _tell_held(self) -> None:
        held, self._held = self._held, {}
        for sample in held.values():
            self._on_load(sample)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            if self._link.writable and self._edge is not None:
                self._tell_counts()

    def _tell_counts(self) -> None:
        tallies = self._configured.tallies()
        counts = []
        for function, tally in tallies.items():
            known, told = self._told.get(function) or (tally, Tally())
            if known is not tally:  # the function was removed and deployed anew
                told = Tally()
            if tally.completed != told.completed or tally.started != told.started:
                counts.append(Count.of(function, tally.since(told)))
                self._told[function] = (tally, tally.copy())
        for function in self._told.keys() - tallies.keys():
            del self._told[function]
        figures = self._configured.own_figures()
        if counts or figures != self._figures:
            self._figures = figures
            self._link.send(Counted(tuple(counts), figures))
        self._tell_records()

    def _tell_records(self) -> None:
        for function, tally in self._configured.tallies().items():
            if tally.records is not None and tally.records.recent:
                self._link.send(Recorded(function.namespace, function.name, *tally.records.take()))


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
