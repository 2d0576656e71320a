"""The store of several gateways: a Redis server holds the calls. Fulfils `store.Store`.

Each method is one step inside the server (`run.lua`), whichever gateway asks: limits, bounds and leases hold over all.
Durable means what the server's log does: with `appendfsync always` it is synced before the answer comes; with `everysec` the
server is asked to have synced (WAITAOF, Redis 7.2), or, where it cannot be asked, about a second may be lost with it.

Consumer groups hold no leases here: they measure idleness by the server's clock and keep no order by due time, limits or a
count of takes. A call is an entry of a stream, which is taken in its order; those that wait for a time are in a sorted set
beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.asynchronous.calls import Body, Call, Depth, Lease, Outcome, Receipt, State, Submission
from gateway.asynchronous.redis.bodies import UPLOAD_KEPT_S, Bodies
from gateway.asynchronous.redis.lane import Lane
from gateway.asynchronous.redis.script import ADDING, ENDING, Script
from gateway.asynchronous.redis.server import Server
from gateway.asynchronous.redis.settings import RedisSettings
from gateway.asynchronous.redis.wire import (
    OK,
    SMALL_BYTES,
    Entry,
    blob,
    calls_of,
    depths_of,
    entry_of,
    finish,
    operation,
    submission,
)
from gateway.asynchronous.rows import NUMBERS, STATES, encoded_outcome
from gateway.asynchronous.store import Bounds, Keep, QueueFull, StoreUnavailable, unbounded
from gateway.asynchronous.waiters import Waiters

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

AT_A_TIME: Final = 2
"""Batches of a kind under way: one is made, or read, while the server does the other."""
WAITED_FOR: Final = 16
"""Batches that may wait for the server's sync at a time."""
QUEUES_KNOWN: Final = 4096
"""How many queues' limits go along with each `take`: of those that gave calls last. The server names others that have some
due, at most 200 at a time, and gives nothing until it knows their limits too, so that none is passed over."""
LEARNT_IN: Final = 25
ASKED_AFTER_S: Final = 5.0
"""Without news for this long, the server is asked whether it is there."""
NEWS_WITHIN_S: Final = 1.0
"""How old what `ended` knows may be while no news come."""


class RedisStore:
    """Opens the store; `spool` is a folder of this process. Connects in the background: as long as the server is away, each
    method raises StoreUnavailable. To be used from one event loop, and made in it."""

    def __init__(self, settings: RedisSettings, spool: Path) -> None:
        self.spool = spool
        try:
            spool.mkdir(mode=0o700, exist_ok=True)
            for entry in os.scandir(spool):
                if not entry.is_dir():
                    Path(entry.path).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{spool}: {error.strerror}") from None
        self._server = server = Server(settings)

        def parallel() -> int:
            return WAITED_FOR if server.waits else AT_A_TIME

        self._adding = Lane(lambda batch: self._change(ADDING, batch), parallel)
        self._ending = Lane(lambda batch: self._change(ENDING, batch), parallel)
        self._quick = Lane(lambda batch: self._evaluate(ENDING, batch, durable=False), lambda: AT_A_TIME)
        self._bodies = Bodies(server)
        self._queues: dict[str, None] = {}
        self._bell = asyncio.Event()
        self._waiters = Waiters()
        self._hears = False
        self._name = _new_name()
        self._nothing: tuple[int, float | None] = (-1, None)
        self._listening = asyncio.create_task(self._listen())

    # the contract

    async def submit(
        self, submissions: Sequence[Submission], now: float, bounds: Callable[[str], Bounds] = unbounded
    ) -> list[Receipt]:
        entries = await self._entries(submissions, now, bounds)
        fields = await self._adding.run(submission(entries))
        if fields is OK:
            return [Receipt(entry.id) for entry in entries]
        word, *told = fields
        if word != b"ok":
            await self._bodies.drop([entry.where for entry in entries])
            raise _full(told, bounds) if word == b"full" else _too_slow()
        receipts = [Receipt(call_id.decode(), how == b"r") for call_id, how in zip(told[::2], told[1::2], strict=True)]
        await self._bodies.drop([entry.where for entry, receipt in zip(entries, receipts, strict=True) if receipt.repeated])
        return receipts

    async def take(self, limit: Callable[[str], int], at_most: int, now: float, lease_s: float) -> list[Call]:
        self._bell.clear()
        if at_most <= 0:
            return []
        for left in reversed(range(LEARNT_IN)):
            limits = {queue: limit(queue) for queue in self._queues}
            taking = self._quick.run(operation("take", now, now + lease_s, at_most, limits, left == 0))
            asked = self._asked
            _, more, due, packed, *foreign = await taking
            for name in foreign:
                self._queues[name.decode()] = None
            calls = calls_of(packed)
            if calls or not (foreign or more):
                self._nothing = (-1 if calls else asked, float(due) if due else None)
                break
        for queue in {call.queue: None for call in calls}:  # those that have calls stay known
            self._queues.pop(queue, None)
            self._queues[queue] = None
        while len(self._queues) > QUEUES_KNOWN:
            del self._queues[next(iter(self._queues))]
        return calls

    async def extend(self, lease: Lease, now: float, lease_s: float) -> bool:
        return _held(await self._quick.run(operation("extend", lease.id, lease.take, now + lease_s)))

    async def finish(
        self,
        lease: Lease,
        state: State,
        outcome: Outcome,
        now: float,
        *,
        body: bytes | Path = b"",
        then: Sequence[Submission] = (),
    ) -> bool:
        if isinstance(body, bytes) and len(body) <= SMALL_BYTES:
            size, data, where = len(body), body, ""
        else:
            try:
                size, data, where = await self._bodies.stored(body)
            except BaseException:
                await _removed(then)
                raise
        try:
            entries = await self._entries(then, now) if then else ()
        except BaseException:
            await self._bodies.drop([where])
            raise
        fields = await self._ending.run(finish(lease, state, outcome, now, size, data, where, entries))
        if fields is not OK:
            await self._bodies.drop([where, *(entry.where for entry in entries)])
            if fields[0] == b"lost":
                raise _too_slow()
            return False
        self._waiters.over((lease.id,))
        return True

    async def retry(self, lease: Lease, due: float, outcome: Outcome, now: float) -> bool:
        return _held(await self._ending.run(operation("retry", lease.id, lease.take, due, blob(encoded_outcome(outcome)))))

    async def release(self, leases: Sequence[Lease], now: float) -> None:
        await self._quick.run(operation("release", [(lease.id, lease.take) for lease in leases], now))
        self._bell.set()

    async def cancel(self, call_id: str, now: float, *, then: Sequence[Submission] = ()) -> State | None:
        follows = b"".join([entry.packed for entry in await self._entries(then, now)])
        state = _state(await self._ending.run(operation("cancel", call_id, now, blob(follows))))
        if state is not None and not state.ended:
            self._waiters.over((call_id,))
        return state

    async def replay(self, call_id: str, now: float) -> State | None:
        return _state(await self._ending.run(operation("replay", call_id, now)))

    async def replay_all(self, queue: str, now: float, at_most: int = 1000) -> int:
        count = 0
        while count < at_most:
            _, found = await self._ending.run(operation("replay_all", queue, now, at_most - count))
            if not int(found):
                break
            count += int(found)
        return count

    async def get(self, call_id: str) -> Call | None:
        return next(iter(calls_of((await self._quick.run(operation("get", call_id)))[1])), None)

    async def ended(self, call_id: str, timeout_s: float) -> Call | None:
        end = asyncio.get_running_loop().time() + timeout_s
        with self._waiters.waiting(call_id) as event:
            while True:
                event.clear()  # before the look: an end that is told while it is under way counts
                call = await self.get(call_id)
                left = end - asyncio.get_running_loop().time()
                if call is None or call.state.ended or left <= 0:
                    return call
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left if self._hears else min(left, NEWS_WITHIN_S)):
                        await event.wait()

    async def page(
        self, queue: str | None = None, states: Sequence[State] = (), limit: int = 100, before: str = ""
    ) -> list[Call]:
        numbers, calls, on = [NUMBERS[state] for state in states], list[Call](), 0
        while len(calls) < limit:
            words = operation("page", queue or "", numbers, limit - len(calls), calls[-1].id if calls else before, on)
            _, further, found = await self._quick.run(words)
            calls += calls_of(found, bodies=False)
            if not further:
                break
            on = int(further)
        return calls

    async def depths(self, now: float) -> Mapping[str, Depth]:
        return depths_of((await self._quick.run(operation("depths", now)))[1:])

    async def sweep(self, now: float, keep: Keep) -> bool:
        word, *told = await self._quick.run(operation("sweep", now, keep.ended_s, keep.dead_s, keep.bytes))
        if word == b"older":
            raise self._server.refusal("OLDER")
        more, over_due = told
        if over_due:
            self._bell.set()
        return bool(more)

    async def changed(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()

    async def next_due(self) -> float | None:
        asked, due = self._nothing
        if asked == self._asked and self._hears and not self._bell.is_set():  # nothing has been heard since that take
            return due
        _, *found = await self._quick.run(operation("next_due"))
        return float(found[0]) if found else None

    async def chunks(self, body: Body) -> AsyncIterator[bytes]:
        async for piece in self._bodies.chunks(body):
            yield piece

    async def close(self) -> None:
        while not self._listening.done():  # the client may take a cancellation for the end of one of its own time-outs
            self._listening.cancel()
            await asyncio.wait([self._listening], timeout=0.2)
        for lane in (self._adding, self._ending, self._quick):
            await lane.close()
        await self._server.close()

    # batches

    @property
    def _asked(self) -> int:
        """How many operations there have been."""
        return self._adding.asked + self._ending.asked + self._quick.asked

    async def _change(self, script: Script, batch: Sequence[bytes]) -> bytes:
        """Do what may bring something to take: that is told here, also when who asked for it has left."""
        try:
            return await self._evaluate(script, batch, durable=True)
        finally:
            self._bell.set()

    async def _evaluate(self, script: Script, batch: Sequence[bytes], *, durable: bool) -> bytes:
        try:
            return await self._server.evaluate(script, b"".join(batch), self._name, durable=durable)
        except BaseException:
            self._name = _new_name()  # should it have been carried out, or still be, then that is news also here
            raise

    # news of other gateways

    async def _listen(self) -> None:
        """Hear what changed, from whichever gateway; after a loss whoever waits looks for himself."""
        pause_s = 0.1
        while True:
            try:
                await self._server.look()
                async with self._server.client.pubsub() as channel:
                    await channel.subscribe(f"{self._server.key}:news")
                    self._hears, pause_s = True, 0.1
                    self._alarm()
                    await self._hear(channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._hears = False
                self._server.lost(error)
                self._alarm()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # so that gateways do not come all at once
            pause_s = min(2.0, pause_s * 2)

    async def _hear(self, channel: PubSub) -> None:
        """Follow the news until the connection is lost, or its other end says nothing when it is asked."""
        asked = False
        while True:
            message = await channel.get_message(timeout=ASKED_AFTER_S)
            if message is None:
                if asked:
                    raise StoreUnavailable(f"no news, and no answer, for {2 * ASKED_AFTER_S:g} s")
                await channel.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                self._heard(message["data"])

    def _alarm(self) -> None:
        self._bell.set()
        self._waiters.alarm()

    def _heard(self, news: bytes) -> None:
        """`w` where there is something to take, else `e`; the name of who did it; then ids of calls that have ended. What was
        done here has been told by its answer."""
        name, *ended = news[1:].decode().split(" ")
        if news[:1] == b"w" and name != self._name:
            self._bell.set()
        self._waiters.over(ended)

    # what follows from submissions

    async def _entries(
        self, submissions: Sequence[Submission], now: float, bounds: Callable[[str], Bounds] = unbounded
    ) -> list[Entry]:
        entries: list[Entry] = []
        try:
            for wanted in submissions:
                body = wanted.body
                if isinstance(body, bytes) and len(body) <= SMALL_BYTES:
                    size, data, where = len(body), body, ""
                else:
                    size, data, where = await self._bodies.stored(body)
                entries.append(entry_of(wanted, now, bounds(wanted.queue), size, data, where))
        except BaseException:
            await self._bodies.drop([entry.where for entry in entries])
            await _removed(submissions[len(entries) :])
            raise
        return entries


async def _removed(submissions: Sequence[Submission]) -> None:
    """Remove the files of submissions that come to nothing."""
    for wanted in submissions:
        if isinstance(wanted.body, Path):
            await asyncio.to_thread(wanted.body.unlink, True)


def _new_name() -> str:
    return os.urandom(6).hex()


def _held(found: Sequence[bytes]) -> bool:
    return found[0] == b"ok"


def _state(found: Sequence[bytes]) -> State | None:
    return STATES[int(found[1])] if _held(found) else None


def _too_slow() -> StoreUnavailable:
    return StoreUnavailable(f"a body was on its way for more than {UPLOAD_KEPT_S} s: nothing was changed")


def _full(told: Sequence[bytes], bounds: Callable[[str], Bounds]) -> QueueFull:
    kind, queue, present = (field.decode() for field in told)
    of_kind = QueueFull.of_calls if kind == "calls" else QueueFull.of_bytes
    return of_kind(queue, present, bounds(queue))
