"""What sits at a `member`'s end of a link: an edge that shares limits with others, or one that follows what edges tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Final, Self

import msgspec

from gateway.edge.edge import Edge
from gateway.edge.gathered import Gathered
from gateway.edge.inside import Accept
from gateway.edge.member import Look, Member
from gateway.edge.messages import Claim, Gone, Grant, Load, Recall, Relayed, Released, Return, Want
from gateway.edge.report import Report
from gateway.edge.settings import EdgeSettings
from gateway.edge.tenure import watched
from orchestration.events import Event, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.replica import Endpoint, ReplicaState

COUNT_EVERY_S: Final = 0.5
NOBODY: Final = "the platform's controller cannot be reached"


class LinkedEdge:
    """An edge, and its link to who leads. It serves before it is linked, and while it is not.

    `apply` may be called before it is entered. `edge` is for who asks for figures.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        control: Endpoint,
        secret: bytes,
        look: Look,
        acceptor: Endpoint | None = None,
        inside: Mapping[Endpoint, Accept] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock = watched(clock, self._paused)
        self.member = Member(settings.name, secret, look, self, clock=clock)
        self._report = Report(self.member.send, lambda: self.member.can_send)
        self._let_go: set[str] = set()
        self._counting: asyncio.Task[None] | None = None
        self.edge = Edge(
            settings,
            control=control,
            on_load=self._report.load,
            on_released=self._released,
            on_slots=self._tell,
            acceptor=acceptor,
            inside=inside,
            clock=clock,
        )
        self.edge.unlinked(NOBODY)

    async def __aenter__(self) -> Self:
        """Listen and serve. Raises OSError."""
        await self.edge.start()
        await self.member.__aenter__()
        self._counting = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])
        self._report.tell(self.edge)
        await self.member.__aexit__(kind, error, tb)
        await self.edge.stop()

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        if isinstance(event, ReplicaChanged) and event.replica.state is not ReplicaState.DRAINING:
            self._let_go.discard(event.replica.id)
        self.edge.apply(event)

    def _paused(self, before: float, now: float) -> None:
        self.member.paused(before, now)

    # what the edge tells

    def _released(self, replica: str) -> None:
        self._let_go.add(replica)
        self.member.send(Released(replica))

    def _tell(self, message: Want | Return) -> None:
        if isinstance(message, Want) and message.calls:  # as an age: clocks of machines are not comparable
            message = msgspec.structs.replace(message, since=self._clock() - message.since)
        self.member.send(message)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            if self.member.can_send:
                self._report.tell(self.edge)

    # what the member tells

    def linked(self) -> tuple[list[Claim], Iterable[str]]:
        """There is a link."""
        return self.edge.claim(), self._let_go

    def welcomed(self) -> None:
        """It can be used."""
        self.edge.linked()
        self._report.tell_held()

    def unlinked(self) -> None:
        """There is none any more."""
        self.edge.unlinked(NOBODY)

    def give_up(self) -> None:
        """Own nothing any more."""
        self.edge.give_up()

    def hear(self, message: Grant | Recall | Relayed | Gone | Released) -> None:
        """The hub says something."""
        if isinstance(message, Recall):
            message = msgspec.structs.replace(message, since=self._clock() - message.since)
        if isinstance(message, Grant | Recall):
            self.edge.share(message)

    def writable(self) -> None:
        """What was held back can be sent."""
        self._report.tell_held()


class Follower:
    """Hears what edges tell the leader. Entered, it keeps a link; `gathered` are the edges' figures since then."""

    def __init__(
        self,
        name: str,
        *,
        secret: bytes,
        look: Look,
        on_load: Callable[[LoadSample], None],
        on_released: Callable[[str], None],
        on_gone: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gathered = Gathered()
        self.member = Member(name, secret, look, self, follows=True, clock=clock)
        self._on_load, self._on_released, self._on_gone = on_load, on_released, on_gone
        self._clock = clock
        self._edges: set[str] = set()

    async def __aenter__(self) -> Self:
        await self.member.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.member.__aexit__(kind, error, tb)

    def linked(self) -> tuple[list[Claim], Iterable[str]]:
        """There is a link: edges tell anew of the calls that they have."""
        for edge in list(self._edges):
            self._gone(edge)
        return [], ()

    def welcomed(self) -> None:
        """Nothing to say."""

    def unlinked(self) -> None:
        """What was told last holds."""

    def give_up(self) -> None:
        """Nothing is owned."""

    def hear(self, message: Grant | Recall | Relayed | Gone | Released) -> None:
        """An edge told something, or is gone; or all edges have let go of a replica."""
        match message:
            case Relayed(edge, told):
                self._edges.add(edge)
                if isinstance(told, Load):
                    told = Load(msgspec.structs.replace(told.sample, at=self._clock()))
                    self._on_load(told.sample)
                self.gathered.hear(edge, told)
            case Gone(edge):
                self._gone(edge)
            case Released(replica):
                self._on_released(replica)

    def writable(self) -> None:
        """Nothing was held back."""

    def _gone(self, edge: str) -> None:
        self._edges.discard(edge)
        self.gathered.forget(edge)
        self._on_gone(edge)
