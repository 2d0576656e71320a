"""The other end of a `hub`'s links: finds who leads, links up, stays linked, and knows for how long slots may be used without.

`look` says who leads, in the words of the election; it is asked every LOOK_EVERY_S, also while the link is well: a leader
that was cut off may go on answering after another one was elected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec

from gateway.edge import handshake
from gateway.edge.link import Link
from gateway.edge.messages import (
    Answered,
    Beat,
    Challenge,
    Claim,
    Gone,
    Grant,
    Hello,
    Holding,
    Leaving,
    Recall,
    Relayed,
    Released,
    ToMember,
    Welcome,
)
from gateway.edge.tenure import Sighting, Tenure

log = logging.getLogger("pinnace.edge")

LOOK_EVERY_S: Final = 2.0
LOOK_WITHIN_S: Final = 3.0
CONNECTED_WITHIN_S: Final = 5.0
WELCOMED_WITHIN_S: Final = 15.0
"""The hub writes the name down first."""
SILENT_AT_MOST_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0

Look = Callable[[], Awaitable[Sighting | None]]
"""Returns who leads; None where that cannot be known now."""

_decoder: Final = msgspec.msgpack.Decoder(ToMember)


class Seat(Protocol):
    """What sits at this end of the link. An edge owns slots; who only follows claims none and is told of none."""

    def linked(self) -> tuple[list[Claim], Iterable[str]]:
        """There is a link: return what is owned, and which draining replicas are let go of."""

    def welcomed(self) -> None:
        """What was returned is on its way: from now on may be sent."""

    def unlinked(self) -> None:
        """There is no link; what is owned stays."""

    def give_up(self) -> None:
        """What is owned may be given to others from now on."""

    def hear(self, message: Grant | Recall | Relayed | Gone | Released) -> None:
        """The hub says something."""

    def writable(self) -> None:
        """What was held back can be sent."""


class Member:
    """Keeps one link while entered. `follows`: it is no edge. `clock` gives monotonic seconds."""

    def __init__(
        self,
        name: str,
        secret: bytes,
        look: Look,
        seat: Seat,
        *,
        follows: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.leader = ""
        """Who leads, as far as is known; empty: nobody."""
        self.cut_off = False
        """Somebody leads, cannot be reached, and may have given away what was owned here."""
        self.trouble = ""
        """Why there was no link the last time that one was tried."""
        self._secret = secret
        self._look = look
        self._seat = seat
        self._follows = follows
        self._clock = clock
        self._tenure = Tenure()
        self._link: Link[ToMember] | None = None
        self._linked_to = ""
        self._welcomed = asyncio.Event()
        self._nonce = self._hub_nonce = b""
        self._asked_at = 0.0
        self._heard_of = float("-inf")
        """When the last beat began that was answered."""
        self._beats: dict[int, float] = {}
        self._number = 0
        self._answered_at = 0.0
        self._hurry = asyncio.Event()
        self._dialing: asyncio.Task[None] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        tasks = [task for task in (self._task, self._dialing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        linked, link, self._link = self.linked, self._link, None
        if link is not None and linked:
            if not self._follows:
                link.send(Leaving())
            await link.close()
        elif link is not None:
            link.abort()

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that must go on as long as the member is used."""
        assert self._task is not None
        return self._task

    @property
    def linked(self) -> bool:
        """Whether the hub knows of this end."""
        return self._link is not None and self._welcomed.is_set()

    @property
    def can_send(self) -> bool:
        """Whether something may be sent that can wait."""
        return self.linked and self._link is not None and self._link.writable

    def send(self, message: msgspec.Struct) -> None:
        """Tell the hub something; without a link it is lost."""
        if self.linked and self._link is not None:
            self._link.send(message)

    def paused(self, before: float, now: float) -> None:
        """The process was stopped, or its loop held up, since `before`: see whether what is owned may still be used."""
        if self._task is not None and self._tenure.ended_in(before, now):
            self._unlink("this process was paused for too long")
            self.cut_off = bool(self.leader)
            self._seat.give_up()

    # the loop

    async def _run(self) -> None:
        while True:
            sighting = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_WITHIN_S):
                    sighting = await self._look()
            if sighting is not None:
                self._saw(sighting)
            self._beat()
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._hurry.wait()
                    await asyncio.sleep(self._pause_s)

    def _saw(self, sighting: Sighting) -> None:
        self.leader = sighting.leader if sighting.leads else ""
        self.cut_off = self.cut_off and sighting.leads
        if self._link is not None and sighting.leads and sighting.leader != self._linked_to:
            self._unlink("another one leads")
        if self.linked and sighting.leads and sighting.leader == self._linked_to:
            self._tenure.confirmed(self._heard_of)  # it was there then, and knows of this end
        if self._tenure.is_over(sighting, self._clock()):
            if self._link is not None:
                self._unlink("it does not confirm")
            self.cut_off = True
            self._seat.give_up()
        dials = self._dialing is not None and not self._dialing.done()
        if self._link is None and not dials and sighting.leads and sighting.address:
            self._dialing = asyncio.create_task(self._dial(sighting))

    def _beat(self) -> None:
        if not self.linked or self._link is None:
            return
        now = self._clock()
        if now - self._answered_at > SILENT_AT_MOST_S:
            self._unlink("it is silent")
            return
        self._number += 1
        self._beats[self._number] = now
        self._link.send(Beat(self._number))

    async def _dial(self, sighting: Sighting) -> None:
        host, _, port = sighting.address.rpartition(":")
        link: Link[ToMember] = Link(
            _decoder, lambda message: self._hear(link, message), lambda: self._lost(link), self._seat.writable
        )
        self._link, self._linked_to, self._nonce = link, sighting.leader, handshake.nonce()
        try:
            async with asyncio.timeout(CONNECTED_WITHIN_S):
                await link.dial(host.strip("[]"), int(port))
            async with asyncio.timeout(WELCOMED_WITHIN_S):
                await self._welcomed.wait()
        except (OSError, TimeoutError, ValueError) as error:
            self._cannot_link(sighting.address, str(error) or "it does not answer")
            if self._link is link:
                self._unlink("")
        except asyncio.CancelledError:
            link.abort()
            raise

    def _cannot_link(self, address: str, why: str) -> None:
        trouble = f"no link to the leader at {address}: {why}"
        if trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble

    # what the link tells

    def _hear(self, link: Link[ToMember], message: ToMember) -> None:
        if link is not self._link:
            return
        match message:
            case Challenge(nonce, protocol):
                if why := handshake.misfit(protocol):
                    self._cannot_link(link.peer, why)
                    if protocol < handshake.PROTOCOL:  # it may not know of numbers, and would let this end in
                        self._unlink("")
                        return
                self._hub_nonce, self._asked_at = nonce, self._clock()
                mine = handshake.proof(self._secret, handshake.MEMBER, self._nonce, nonce)
                link.send(Hello(self.name, self._follows, self._nonce, mine, handshake.PROTOCOL))
            case Welcome(proof, leads):
                self._was_welcomed(link, proof, leads)
            case _ if not self._welcomed.is_set():
                return
            case Answered(number, leads):
                now = self._clock()
                self._answered_at = now
                began = self._beats.pop(number, None)
                if began is not None:
                    self._heard_of = began
                    if leads:
                        self._tenure.confirmed(began)
            case _:
                self._seat.hear(message)

    def _was_welcomed(self, link: Link[ToMember], proof: bytes, leads: bool) -> None:
        if not handshake.is_proof(proof, self._secret, handshake.HUB, self._hub_nonce, self._nonce):
            log.error("%s says that it leads and does not know the link secret", link.peer)
            self._unlink("")
            return
        log.info("linked to %s at %s", self._linked_to, link.peer)
        self._answered_at = self._clock()
        self._heard_of = self._asked_at
        if leads:
            self._tenure.confirmed(self._asked_at)
        self._beats.clear()
        self._pause_s = FIRST_PAUSE_S
        self.trouble = ""
        claims, released = self._seat.linked()
        if not self._follows:
            link.send(Holding(tuple(claims), tuple(released)))
        self._welcomed.set()
        self.cut_off = False
        self._seat.welcomed()
        self._beat()

    def _lost(self, link: Link[ToMember]) -> None:
        if link is self._link:
            self._unlink("the link ended")

    def _unlink(self, why: str) -> None:
        link, self._link = self._link, None
        was_linked = self._welcomed.is_set()
        self._welcomed.clear()
        self._linked_to = ""
        if link is not None:
            link.abort()
        if was_linked:
            log.warning("no link to the leader any more: %s", why)
            self._seat.unlinked()
        if self._dialing is not None and self._dialing is not asyncio.current_task():
            self._dialing.cancel()
        self._again()

    def _again(self) -> None:
        """Look for the leader soon, each time in a row a little later."""
        self._hurry.set()
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 1.5)
