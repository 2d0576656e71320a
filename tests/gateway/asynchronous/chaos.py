"""Gateways that are killed while they accept and carry out calls, and the server that keeps them.

A gateway is a process with a real acceptor and real workers; in the place of functions is a file, to which each effect is
added: call, take, number of the submission. `Chaos.run` submits, kills in turn, and returns what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import multiprocessing
import multiprocessing.process
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gateway.asynchronous.acceptor import Acceptor
from gateway.asynchronous.caller import Response
from gateway.asynchronous.calls import Call, State
from gateway.asynchronous.carrier import Execution
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.redis.settings import RedisSettings
from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.retry import Answer
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Store
from gateway.asynchronous.workers import Workers
from orchestration.events import FunctionChanged
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from tests.gateway.asynchronous.redis_server import RedisServer

CONCURRENCY: Final = 40
SUBMITTERS: Final = 16
SIZES: Final = (0, 100, 3000, 70_000)
SETTINGS: Final = AsyncSettings(concurrency=CONCURRENCY, lease_s=1.5)
ENDS_WITHIN_S: Final = 60.0


class Place(NamedTuple):
    """Where calls are kept: a server, or a folder."""

    folder: str
    redis: RedisSettings | None = None

    @contextlib.asynccontextmanager
    async def open(self, own: str) -> AsyncIterator[Store]:
        """Open the store; `own` names a folder for what is on its way."""
        store: Store
        if self.redis is None:
            store = SqliteStore(Path(self.folder))
        else:
            store = RedisStore(self.redis, Path(self.folder, f"spool-{own}"))
        try:
            yield store
        finally:
            await store.close()


def body_of(number: int) -> bytes:
    """The body of a submission: it tells whether it came whole."""
    return (hashlib.sha256(b"%d" % number).digest() * 2200)[: SIZES[number % len(SIZES)]]


class Effects:
    """Carries out calls by adding a line to a file in one write."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def carry(self, call: Call) -> Response:
        body = b"".join([piece async for piece in self._store.chunks(call.body)])
        number = int(dict(call.headers)["X-Number"])
        whole = body == body_of(number)
        await asyncio.sleep(random.uniform(0, 0.004))
        os.write(self._file, f"{call.id} {call.takes} {number} {'whole' if whole else 'broken'}\n".encode())
        return Response(answer=Answer(200), body=body)


def gateway(name: str, place: Place) -> None:
    """Accept and carry out calls until it is killed."""
    logging.disable()

    async def serve() -> None:
        functions = Functions()
        spec = FunctionSpec(service="chaos", image="x", annotations={"com.openfaas.retry.attempts": "100"})
        functions.apply(FunctionChanged(deploy(None, spec, "sha256:0", 0.0)))
        folder = Path(place.folder)
        async with place.open(name) as store:
            execution = Execution(store, functions, {"": Effects(store, folder / "effects")})
            async with Acceptor(folder / name, store, functions, SETTINGS), Workers(store, functions, execution, SETTINGS):
                await asyncio.Event().wait()

    asyncio.run(serve())


class Told(msgspec.Struct):
    """What came of it: ids by number of the submission where it was acknowledged."""

    accepted: dict[int, str]
    kills: Counter[str]
    refused: int
    lost_connections: int
    most_taken: int
    """How many leases can have been cut at most."""


class Chaos:
    """`gateways` gateways keep calls in `place`; `server` is killed in turn with them."""

    def __init__(self, place: Place, gateways: int, server: RedisServer | None = None) -> None:
        self._place, self._server = place, server
        self._names = [f"gateway-{number}" for number in range(gateways)]
        # Children of a process that has imported everything are there in milliseconds.
        self._nursery = multiprocessing.get_context("forkserver")
        self._nursery.set_forkserver_preload([__name__])
        self._alive: dict[str, multiprocessing.process.BaseProcess] = {}
        self._told = Told({}, Counter(), 0, 0, 0)
        self._next = 0

    async def run(self, submissions: int, kills: int, *, seed: int = 0) -> Told:
        """Submit so many calls while so much is killed; return once all that is known has ended."""
        chance = random.Random(seed)
        for name in self._names:
            self._start(name)
        try:
            murder = asyncio.create_task(self._kill(kills, chance))
            await asyncio.gather(*(self._submit(submissions, murder) for _ in range(SUBMITTERS)), murder)
            await self._ended()
        finally:
            for process in self._alive.values():
                process.kill()
                process.join()
        return self._told

    def _start(self, name: str) -> None:
        process = self._nursery.Process(target=gateway, args=(name, self._place), daemon=True)
        process.start()
        self._alive[name] = process

    async def _kill(self, kills: int, chance: random.Random) -> None:
        turn: list[str] = [*self._names, *(["redis"] if self._server is not None else [])]
        for number in range(kills):
            before = len(self._told.accepted)
            await asyncio.sleep(chance.uniform(0.05, 0.35))
            async with asyncio.timeout(20):  # each life accepts something, else nothing is shown
                while len(self._told.accepted) == before:  # noqa: ASYNC110  # it is not told
                    await asyncio.sleep(0.005)
            victim = turn[number % len(turn)]
            self._told.kills[victim] += 1
            if victim == "redis":
                assert self._server is not None
                self._server.kill()
                self._told.most_taken += CONCURRENCY * len(self._names)
                await asyncio.sleep(chance.uniform(0, 0.1))
                await asyncio.to_thread(self._server.start)
            else:
                self._alive[victim].kill()
                await asyncio.to_thread(self._alive[victim].join)
                self._told.most_taken += CONCURRENCY
                self._start(victim)

    async def _submit(self, submissions: int, murder: asyncio.Task[None]) -> None:
        """Submit the next ones, until all are, and all are killed."""
        while self._next < submissions or not murder.done():
            number = self._next
            self._next += 1
            # A client that wants to be sure says which call it means, and comes again; another one leaves it.
            again = number % 4 != 0
            while (call_id := await self._ask(number, again)) is None and again:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            if call_id is not None:
                self._told.accepted[number] = call_id

    async def _ask(self, number: int, again: bool) -> str | None:
        name = random.choice(self._names)
        body = body_of(number)
        key = f"Idempotency-Key: {number}\r\n" if again else ""
        head = f"POST /async-function/chaos HTTP/1.1\r\nX-Number: {number}\r\n{key}Content-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_unix_connection(str(Path(self._place.folder, name)))
                try:
                    writer.write(head.encode() + body)
                    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self._told.lost_connections += 1
            return None
        if answer.startswith("HTTP/1.1 202"):
            return answer.partition("X-Call-Id: ")[2].partition("\r\n")[0]
        assert answer.startswith("HTTP/1.1 503"), answer
        self._told.refused += 1
        return None

    async def _ended(self) -> None:
        """Wait until nothing waits or runs: a gateway says so."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            for call_id in self._told.accepted.values():
                while (await self._state(call_id)) != "succeeded":  # noqa: ASYNC110  # the gateway that would tell may be new
                    await asyncio.sleep(0.1)

    async def _state(self, call_id: str) -> str:
        try:
            reader, writer = await asyncio.open_unix_connection(str(Path(self._place.folder, self._names[0])))
            try:
                writer.write(f"GET /async-function/{call_id} HTTP/1.1\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                told = await reader.readexactly(int(head.partition("Content-Length: ")[2].partition("\r\n")[0]))
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return ""
        assert head.startswith(("HTTP/1.1 200", "HTTP/1.1 503")), head
        return str(msgspec.json.decode(told)["state"]) if head.startswith("HTTP/1.1 200") else ""


async def judged(place: Place, told: Told, say: Callable[[str], None] = print) -> None:
    """Fail where a promise was broken; say what was seen."""
    effects = [line.split() for line in Path(place.folder, "effects").read_text().splitlines()]
    by_call: dict[str, list[list[str]]] = {}
    for effect in effects:
        by_call.setdefault(effect[0], []).append(effect)
    async with place.open("judge") as store:
        kept: dict[str, Call] = {}
        while page := await store.page(limit=200, before=list(kept)[-1] if kept else ""):
            kept |= {call.id: call for call in page}
        assert await store.depths(0) == {}, "nothing waits, runs or is dead"
    lost = [number for number, call_id in told.accepted.items() if call_id not in kept]
    assert not lost, f"{len(lost)} acknowledged calls are lost: {lost[:5]}"
    assert len(set(told.accepted.values())) == len(told.accepted), "no two submissions are one call"
    assert {call.state for call in kept.values()} == {State.SUCCEEDED}
    assert all(effect[3] == "whole" for effect in effects), "a call is kept whole or not at all"
    undone = [call_id for call_id in kept if call_id not in by_call]
    assert not undone, f"{len(undone)} calls have ended without their effect"
    assert {*by_call} == {*kept}, "only what is kept was carried out"
    for call_id, call in kept.items():
        takes = [int(effect[1]) for effect in by_call[call_id]]
        assert len(set(takes)) == len(takes), "a lease is one attempt"
        assert max(takes) <= call.takes
    numbers = Counter(int(by_call[call_id][0][2]) for call_id in kept)
    twice = [number for number, count in numbers.items() if count > 1]
    assert not twice, "a submission that is repeated with its key is one call"
    duplicates = len(effects) - len(by_call)
    cut = sum(call.takes - 1 for call in kept.values())
    assert duplicates <= cut <= told.most_taken
    say(
        f"{len(told.accepted)} acknowledged, {len(kept) - len(told.accepted)} kept without an answer, {told.refused} refused,"
        f" {told.lost_connections} connections lost; kills {dict(told.kills)}; {cut} leases cut, {duplicates} effects twice;"
        " lost 0"
    )
