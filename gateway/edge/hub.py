"""Edges on other machines, as the process that leads them holds them: who is there, their slots, what they tell.

Each edge dials the leader (`member`), proves that it knows the secret, and says what it owns; from then on it is told of slots
as an edge process of a `fleet` is. It hears of functions and replicas by itself, so that its warm calls need nobody here.
Who else wants to know what edges tell (the control API, leaders in waiting) dials too, and follows.

Before an edge is welcomed its name (`places`) is published where the next leader finds it: whoever owns something is known to
who comes after (`tenure`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from types import TracebackType
from typing import Final, Self

import msgspec

from gateway.edge import handshake
from gateway.edge.gathered import Gathered
from gateway.edge.link import FRAME_LIMIT_BYTES, Link, frame
from gateway.edge.messages import (
    Answered,
    Beat,
    Challenge,
    Counted,
    FromMember,
    Gone,
    Grant,
    Hello,
    Holding,
    Leaving,
    Load,
    Recall,
    Recorded,
    Relayed,
    Released,
    Return,
    Want,
    Welcome,
)
from gateway.edge.places import PlacesGone, nobody_knows, place_of
from gateway.edge.releases import Releases
from gateway.edge.slots import SlotLedger
from gateway.edge.tenure import Absences
from orchestration.events import Event
from orchestration.load import LoadSample

log = logging.getLogger("pinnace.edge")

MOST_SESSIONS: Final = 1024
MOST_STRANGERS: Final = 128
"""Of those, who have not proven yet that they know the secret, which takes a member one round trip: with one more the one that
has been silent for longest goes, so that nobody keeps members out by connecting and saying nothing."""
GREETED_WITHIN_S: Final = 5.0
SILENT_AT_MOST_S: Final = 10.0
"""A member that does not beat for so long is given up: it beats every two seconds."""
LOOK_EVERY_S: Final = 1.0
LOOK_WITHIN_S: Final = 3.0
FIRST_FRAME_BYTES: Final = 4096
ANYBODY: Final = "*"
"""Stands for edges that somebody else may have let in meanwhile."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_decoder: Final = msgspec.msgpack.Decoder(FromMember)


class _Session:
    """One connection. `name` is empty until its proof was seen; `holds` once it has said what it owns."""

    def __init__(self, hub: Hub, now: float) -> None:
        self.name = ""
        self.follows = False
        self.holds = False
        self.nonce = handshake.nonce()
        self.heard_at = self.confirmed_at = now
        self.link: Link[FromMember] = Link(
            _decoder,
            lambda message: hub.hear(self, message),
            lambda: hub.lost(self),
            on_open=lambda: hub.opened(self),
        )
        self.link.frame_limit_bytes = FIRST_FRAME_BYTES


class Hub:
    """Listens while entered; `port` 0 takes a free one. `publish` returns when `names` are where the next leader finds them,
    or raises OSError.

    `on_load`, `on_released` and `on_gone` are as a fleet's. `is_sure` tells, while this process leads, whether nobody else can
    have begun to. `gone` returns those of some places that are no more (pods that were deleted): who was there is not waited
    for. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        host: str = "",
        port: int = 0,
        publish: Callable[[], Awaitable[None]],
        on_load: Callable[[LoadSample], None],
        on_released: Callable[[str], None],
        on_gone: Callable[[str], None],
        is_sure: Callable[[], bool] = lambda: True,
        gone: PlacesGone = nobody_knows,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gathered = Gathered()
        self.port = port
        self._secret = secret
        self._host = host
        self._publish = publish
        self._on_load, self._on_released, self._on_gone = on_load, on_released, on_gone
        self._is_sure = is_sure
        self._gone = gone
        self._clock = clock
        self._leads = self._serves = False
        self._sessions: set[_Session] = set()
        self._members: dict[str, _Session] = {}
        """Edges that are welcome."""
        self._published: set[str] = set()
        self._absences = Absences()
        self._ledger = SlotLedger(self._tell)
        self._releases = Releases(self.names, self._released)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self, self._clock()).link, self._host or None, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._start(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        self.step_down()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    # leading

    def take_over(self, names: Iterable[str] | None) -> None:
        """Begin to lead, after somebody else or nobody; `names` are the edges that were known then (its `bequest`), None where
        that is not known."""
        self.step_down()
        self._ledger.forget_all()  # it deals out what comes to nobody meanwhile
        self._leads = self._serves = True
        awaited = set(names) if names is not None else {ANYBODY}
        self._published = awaited - {ANYBODY}
        for name in awaited:
            self._absences.begin(name, self._clock())
        self._ledger.await_edges(awaited)
        self._ledger.begin()
        if awaited:
            log.info("waiting for edges that may own slots: %s", ", ".join(sorted(awaited)))

    def lead_again(self) -> None:
        """Lead on: nobody else has meanwhile."""
        if self._leads:
            return
        now = self._clock()
        self._leads = True
        for session in self._members.values():
            session.confirmed_at = now
        self._absences.begin_again(now)
        self._absences.begin(ANYBODY, now)

    def cease(self) -> None:
        """Lead no more: who does is not known, perhaps nobody. Edges that are here go on sharing what they own."""
        if self._leads:
            self._leads = False
            self._ledger.await_edges({ANYBODY})

    def step_down(self) -> None:
        """Somebody else leads."""
        if not self._serves:
            return
        self._leads = self._serves = False
        for session in list(self._sessions):
            session.link.abort()
            self._sessions.discard(session)
        for name in self.names():
            self._forget(name)
        self._members.clear()
        self._published.clear()
        self._absences = Absences()

    def names(self) -> set[str]:
        """Return all edges that may own something."""
        return set(self._members) | (self._absences.names() - {ANYBODY})

    def bequest(self) -> set[str] | None:
        """Return whom the next leader has to wait for: what it passes to `take_over`, with ANYBODY while more are awaited
        than are known; None while it is not for this process to say."""
        return set(self._members) | self._absences.names() if self._serves else None

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        self.gathered.apply(event)
        self._ledger.apply(event)
        self._releases.apply(event)

    # what links tell

    def opened(self, session: _Session) -> None:
        """Somebody connected."""
        strangers = [each for each in self._sessions if not each.name]
        if len(strangers) >= MOST_STRANGERS:
            oldest = min(strangers, key=lambda each: each.heard_at)
            self._sessions.discard(oldest)
            oldest.link.abort()
        if not self._serves or len(self._sessions) >= MOST_SESSIONS:
            session.link.abort()
            return
        self._sessions.add(session)
        session.link.send(Challenge(session.nonce, handshake.PROTOCOL))

    def lost(self, session: _Session) -> None:
        """A connection ended."""
        self._sessions.discard(session)
        if self._members.get(session.name) is session:
            log.warning("the link to edge %s is lost", session.name)
            del self._members[session.name]
            self._ledger.lose(session.name)
            self._absences.begin(session.name, session.confirmed_at if self._leads else self._clock())

    def hear(self, session: _Session, message: FromMember) -> None:
        """A member says something."""
        session.heard_at = self._clock()
        if not session.name:
            self._greeted(session, message)
            return
        match message:
            case Beat(number):
                session.confirmed_at = self._clock()  # if not by this answer, then by the election's word: see `tenure`
                session.link.send(Answered(number, self._leads and self._is_sure()))
            case _ if session.follows:
                return
            case Holding(claims, released) if self._members.get(session.name) is session:
                session.holds = True
                self._absences.end(session.name)
                self._ledger.join(session.name, claims)
                for replica in released:
                    self._releases.released(replica, session.name)
            case _ if session.holds:
                self._told(session.name, message)

    def _greeted(self, session: _Session, message: FromMember) -> None:
        if isinstance(message, Hello) and (why := handshake.misfit(message.protocol)):
            log.warning("%s is refused: %s", session.link.peer, why)
            session.link.abort()
            return
        proven = isinstance(message, Hello) and handshake.is_proof(
            message.proof, self._secret, handshake.MEMBER, message.nonce, session.nonce
        )
        if not proven or not isinstance(message, Hello) or not _NAME.fullmatch(message.name):
            log.warning("%s does not know the link secret: refused", session.link.peer)
            session.link.abort()
            return
        session.name, session.follows = message.name, message.follows
        session.link.frame_limit_bytes = FRAME_LIMIT_BYTES
        self._start(self._welcome(session, message.nonce))

    async def _welcome(self, session: _Session, nonce: bytes) -> None:
        name = session.name
        if not session.follows:
            for other in self.names():
                if other != name and place_of(name) and place_of(other) == place_of(name):
                    self._ended(other)
            if (before := self._members.get(name)) is not None:
                before.link.abort()
                self.lost(before)
            self._members[name] = session
            if name not in self._published:
                try:
                    await self._publish()
                except OSError as error:
                    log.warning("edge %s cannot be let in: %s", name, error)
                    session.link.abort()
                    return
                if session not in self._sessions:
                    return  # perhaps another led meanwhile, and it was not written down where it counts now
                self._published.add(name)
        if session in self._sessions:
            log.info("%s %s at %s", "following:" if session.follows else "edge", name, session.link.peer)
            session.confirmed_at = self._clock()
            proof = handshake.proof(self._secret, handshake.HUB, session.nonce, nonce)
            session.link.send(Welcome(proof, self._leads and self._is_sure()))

    def _told(self, edge: str, message: FromMember) -> None:
        now = self._clock()
        match message:
            case Load(sample):
                told = Load(msgspec.structs.replace(sample, at=now))  # clocks of machines are not comparable
                self.gathered.hear(edge, told)
                self._relay(Relayed(edge, told))
                self._on_load(told.sample)
            case Counted() | Recorded():
                self.gathered.hear(edge, message)
                self._relay(Relayed(edge, message))
            case Want():
                self._ledger.wanted(edge, msgspec.structs.replace(message, since=now - message.since))
            case Return():
                self._ledger.returned(edge, message)
            case Released(replica):
                self._releases.released(replica, edge)
            case Leaving():
                log.info("edge %s has ended", edge)
                self._ended(edge)

    # inside

    def _tell(self, edge: str, message: Grant | Recall) -> None:
        if (session := self._members.get(edge)) is not None:
            if isinstance(message, Recall):
                message = msgspec.structs.replace(message, since=self._clock() - message.since)
            session.link.send(message)

    def _relay(self, message: Relayed | Gone | Released) -> None:
        followers = [session for session in self._sessions if session.follows]
        if followers:
            data = frame(message)
            for session in followers:
                session.link.send_frame(data)

    def _released(self, replica: str) -> None:
        self._relay(Released(replica))
        self._on_released(replica)

    def _ended(self, edge: str) -> None:
        """An edge owns nothing any more."""
        self._absences.end(edge)
        self._published.discard(edge)
        if (session := self._members.pop(edge, None)) is not None:
            self._sessions.discard(session)
            session.link.abort()
        self._ledger.leave(edge)
        self._forget(edge)
        self._releases.changed()

    def _forget(self, edge: str) -> None:
        self.gathered.forget(edge)
        self._on_gone(edge)
        self._relay(Gone(edge))

    async def _watch(self) -> None:
        """Give up members that are silent, and give away what absent edges owned."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._clock()
            for session in list(self._sessions):
                if session.heard_at + (SILENT_AT_MOST_S if session.name else GREETED_WITHIN_S) < now:
                    session.link.abort()
            await self._end_those_gone()
            if self._leads and self._is_sure():
                for edge in self._absences.over(now):
                    if edge != ANYBODY:
                        log.warning("edge %s is away for good: its slots are given to others", edge)
                    self._ended(edge)

    async def _end_those_gone(self) -> None:
        places = {place: name for name in self._absences.names() if (place := place_of(name))}
        if not self._leads or not places:
            return
        gone: Collection[str] = ()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LOOK_WITHIN_S):
                gone = await self._gone(set(places))
        for place in gone:
            if self._leads and places[place] in self._absences.names():
                log.info("edge %s is no more", places[place])
                self._ended(places[place])

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an edge could not be welcomed: %s", error)
