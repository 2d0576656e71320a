"""Several edges, seen from the control process: it starts them, tells them what exists, and adds up what they tell.

To those who hold it a fleet is what an `Edge` is. Each edge is a process of its own (`process`, `worker`) at the other
end of a `link`; all share one port, so the kernel deals out connections. An edge that dies takes its own connections
with it and nothing else: what it had counted stays counted, its slots go back (`slots`), its part in draining replicas
is over, and another process takes its place, which is told everything that exists before it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import msgspec

from gateway.edge.figures import EdgeFigures, FunctionLoad
from gateway.edge.gathered import Gathered
from gateway.edge.link import TooLong, frame
from gateway.edge.messages import (
    CannotListen,
    Configure,
    Counted,
    FromEdge,
    Grant,
    Listen,
    Listening,
    Load,
    Recall,
    Recorded,
    Released,
    Return,
    Want,
)
from gateway.edge.port import SharedPort
from gateway.edge.process import EdgeProcess
from gateway.edge.releases import Releases
from gateway.edge.routes import RevisionKey
from gateway.edge.settings import EdgeSettings
from gateway.edge.slots import SlotLedger
from gateway.edge.tally import Tally
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, ReplicaState

log = logging.getLogger("pinnace.edge")

STARTED_WITHIN_S: Final = 20.0
SYNCED_WITHIN_S: Final = 2.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
STEADY_AFTER_S: Final = 60.0
"""An edge that lived this long starts again with the first pause."""
PING_EVERY_S: Final = 5.0
SILENT_AT_MOST_S: Final = 30.0
"""An edge that answers no ping for so long hangs, and is killed."""
DRAIN_MARGIN_S: Final = 0.5


class Fleet:
    """`workers` edges that serve as one; see `Edge`. `on_gone(edge)` tells that an edge died and its calls with it.

    Bounds on waiting calls and on connections hold for all edges together: each has its part.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        workers: int,
        *,
        control: Endpoint,
        on_load: Callable[[LoadSample], None],
        on_released: Callable[[str], None],
        on_gone: Callable[[str], None],
        log_format: str = "console",
        acceptor: Endpoint | None = None,
    ) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._control = control
        self._on_load, self._on_gone = on_load, on_gone
        self._log_format = log_format
        self._names = [f"edge-{number}" for number in range(workers)]
        self._port = SharedPort(settings.host, settings.port)
        self._processes: dict[str, EdgeProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._started: dict[str, asyncio.Future[None]] = {}
        self._stopping = False
        self._functions: dict[FunctionId, FunctionChanged] = {}
        self._replicas: dict[str, ReplicaChanged] = {}
        self._gathered = Gathered()
        self._releases = Releases(lambda: self._processes, on_released)
        self._ledger = SlotLedger(self._tell)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start all edges; returns when all listen. Raises OSError when they cannot."""
        await self._port.hold()
        loop = asyncio.get_running_loop()
        self._started = {name: loop.create_future() for name in self._names}
        self._keepers = [asyncio.create_task(self._keep(name)) for name in self._names]
        self._keepers.append(asyncio.create_task(self._watch()))
        try:
            async with asyncio.timeout(STARTED_WITHIN_S):
                await asyncio.gather(*self._started.values())
        except TimeoutError:
            await self.stop()
            raise OSError(errno.ETIMEDOUT, f"its edge processes did not start within {STARTED_WITHIN_S:g} s") from None
        except BaseException:
            await self.stop()
            raise

    async def drain(self, timeout_s: float) -> bool:
        """Let all edges finish their calls and close. Returns whether all ended within `timeout_s`."""
        self._stopping = True
        drains = [asyncio.create_task(process.drain(timeout_s)) for process in self._processes.values()]
        if not drains:
            return True
        _, late = await asyncio.wait(drains, timeout=timeout_s + DRAIN_MARGIN_S)
        for task in late:
            task.cancel()
        return not late and all(task.result() for task in drains)

    async def stop(self) -> None:
        """End all edges, breaking calls that are still going on."""
        self._stopping = True
        for task in (*self._keepers, *self._started.values()):
            task.cancel()
        await asyncio.gather(*self._keepers, *self._started.values(), return_exceptions=True)
        self._keepers.clear()
        self._port.release()

    async def synced(self) -> None:
        """Return when every edge has acted on all that was applied until now; waits for a slow one a bounded time."""
        waits = [asyncio.ensure_future(process.done()) for process in self._processes.values() if process.listening]
        if waits:
            _, late = await asyncio.wait(waits, timeout=SYNCED_WITHIN_S)
            for task in late:
                task.cancel()

    # the face of an edge

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        self._remember(event)
        self._gathered.apply(event)
        try:
            data = frame(event)
        except TooLong as error:
            log.error("a change cannot be told to the edges: %s", error)
            return
        for process in self._processes.values():
            process.send_frame(data)
        self._ledger.apply(event)
        self._releases.apply(event)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port.number

    @property
    def names(self) -> tuple[str, ...]:
        """What the edges are called."""
        return tuple(self._names)

    @property
    def pids(self) -> Mapping[str, int]:
        """The processes of the edges that live now."""
        return {process.name: process.pid for process in self._processes.values()}

    def counts(self) -> Mapping[FunctionId, int]:
        """Return how many calls of each function have ended since the fleet started, as of a moment ago."""
        return self._gathered.counts()

    def tallies(self) -> Mapping[FunctionId, Tally]:
        """Return each function's counters over all edges, as of a moment ago. They go on counting."""
        return self._gathered.tallies()

    def revisions(self) -> Mapping[RevisionKey, Tally]:
        """Return the counters of revisions over all edges, as of a moment ago; see `Edge.revisions`."""
        return self._gathered.revisions()

    def loads(self) -> Mapping[FunctionId, FunctionLoad]:
        """Return the calls that each function has, as last told; functions without any are left out."""
        return self._gathered.loads()

    def figures(self) -> Mapping[str, EdgeFigures]:
        """Return what each edge that lives now tells of itself, by its name."""
        return self._gathered.figures()

    # one edge's life

    async def _keep(self, name: str) -> None:
        """Keep an edge of that name alive."""
        pause_s = FIRST_PAUSE_S
        while True:
            process = EdgeProcess(name, self._hear)
            began = time.monotonic()
            try:
                await process.start()
            except OSError as error:
                how = f"cannot be started: {error.strerror or error}"
            else:
                how = await self._live(process)
            if not self._started[name].done():
                self._started[name].set_exception(OSError(errno.ECHILD, f"its edge process {how}"))
            if self._stopping or self._started[name].exception() is not None:
                return
            if time.monotonic() - began >= STEADY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            log.error("%s %s; another one starts in %g s", name, how, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _live(self, process: EdgeProcess) -> str:
        """From a process's first word to its end, which is told in words."""
        self._processes[process.name] = process
        try:
            process.send(Configure(self._settings_of(process.name), self._control, self._log_format, self._acceptor))
            for event in (*self._functions.values(), *self._replicas.values()):
                process.send(event)
            process.send(Listen())
            await process.lost.wait()
        finally:
            self._forget(process)
            how = await process.end()
        return how

    def _settings_of(self, name: str) -> EdgeSettings:
        settings, edges = self._settings, len(self._names)
        return msgspec.structs.replace(
            settings,
            name=name,
            port=self._port.number,
            reuse_port=True,
            max_connections=-(-settings.max_connections // edges),
            queue_calls=-(-settings.queue_calls // edges),
            queue_bytes=-(-settings.queue_bytes // edges),
        )

    def _forget(self, process: EdgeProcess) -> None:
        del self._processes[process.name]
        process.listening = False
        self._releases.changed()
        self._gathered.forget(process.name)
        self._ledger.leave(process.name)
        self._on_gone(process.name)

    async def _watch(self) -> None:
        """Kill edges that hang: their slots and their connections would be lost for ever."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for process in list(self._processes.values()):
                process.ping()
                if time.monotonic() - process.heard_at > SILENT_AT_MOST_S:
                    log.error("%s hangs: it is killed", process.name)
                    process.kill()

    # what edges say

    def _hear(self, process: EdgeProcess, message: FromEdge) -> None:
        match message:
            case Load() | Counted() | Recorded():
                self._gathered.hear(process.name, message)
                if isinstance(message, Load):
                    self._on_load(message.sample)
            case Want():
                self._ledger.wanted(process.name, message)
            case Return():
                self._ledger.returned(process.name, message)
            case Released(replica):
                self._releases.released(replica, process.name)
            case Listening():
                process.listening = True
                self._ledger.join(process.name)
                if not self._started[process.name].done():
                    self._started[process.name].set_result(None)
            case CannotListen(number, text):
                if not self._started[process.name].done():
                    self._started[process.name].set_exception(OSError(number, text))
                process.kill()

    # inside

    def _remember(self, event: Event) -> None:
        """Keep what an edge that starts later must be told."""
        match event:
            case FunctionChanged(function):
                self._functions[function.id] = event
            case FunctionRemoved(namespace, name):
                self._functions.pop(FunctionId(namespace, name), None)
            case ReplicaChanged(replica):
                self._replicas[replica.id] = event
                if replica.state is ReplicaState.STOPPED:
                    del self._replicas[replica.id]

    def _tell(self, edge: str, message: Grant | Recall) -> None:
        with contextlib.suppress(KeyError):
            self._processes[edge].send(message)
