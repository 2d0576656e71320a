"""One attempt to carry out a call, and what is written down of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec

from gateway.asynchronous.caller import Caller, Request, Response
from gateway.asynchronous.calls import Call, Headers, Lease, Outcome, State, Submission
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.heads import Spellings
from gateway.asynchronous.retry import Again, Answer, Dead, Postponed, Succeeded, Verdict, after, before
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.spool import second_name
from gateway.asynchronous.store import Store, StoreUnavailable
from gateway.asynchronous.tracing import CallTracing
from gateway.edge.tracing import TRACED

MARGIN_S: Final = 90.0
"""How much longer than the function's own limit an attempt may take: it may wait for a replica."""
BUSY_S: Final = 1.0
"""How long a call waits that an edge refused because all replicas are busy, and its place with it."""
LONGEST_LINE: Final = 160
"""Characters of a refusal of the platform that a call's reason repeats at most."""
REPEATED_FIRST_S: Final = 0.1
REPEATED_LAST_S: Final = 2.0
"""Pauses before what came of an attempt is written once more, the first and the longest."""
_HOST: Final = Spellings(("host",))
_NOT_KEPT: Final = Spellings(
    ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "x-call-id", "x-start-time", TRACED.lower())
)


class Carrier(Protocol):
    """Makes one attempt for calls of a kind."""

    async def carry(self, call: Call) -> Response:
        """Return what came back; whatever goes wrong on the way is a failure in the answer."""


Follow = Callable[[Call, State, Outcome, Response], Sequence[Submission]]
"""What is to be submitted along with a call's end."""


def nothing_follows(call: Call, state: State, outcome: Outcome, response: Response) -> Sequence[Submission]:
    """Return nothing: a call's end is its end."""
    return ()


class FunctionCarrier:
    """Calls functions by way of an edge."""

    def __init__(self, store: Store, caller: Caller, functions: Functions) -> None:
        self._store, self._caller, self._functions = store, caller, functions

    async def carry(self, call: Call) -> Response:
        request = Request(
            method=call.method,
            target=f"/function/{call.function}{call.path}",
            host=_host(call.headers) or "localhost",
            headers=call.headers,
            call_id=call.id,
            size=call.body.size,
            data=call.body.data,
        )
        timeout_s = self._functions.of(call.queue).timeout_s + MARGIN_S
        response = await self._caller.call(request, lambda: self._store.chunks(call.body), timeout_s)
        return response if response.answer.status < 400 else _with_its_line(response)


class Execution:
    """Carries out calls that were taken: `run` makes an attempt and tells the store what came of it.

    `carriers` are chosen by the part of the queue's name behind `#`; "" is for functions. `attempted` is told of each attempt,
    `tracing` makes spans of them. `lease_s` is for how long a lease holds that nobody prolongs.
    """

    def __init__(
        self,
        store: Store,
        functions: Functions,
        carriers: dict[str, Carrier],
        *,
        follow: Follow = nothing_follows,
        attempted: Callable[[Call, Verdict], None] = lambda call, verdict: None,
        tracing: CallTracing | None = None,
        lease_s: float = AsyncSettings().lease_s,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._functions = store, functions
        self._carriers = carriers
        self._follow = follow
        self._attempted = attempted
        self._tracing = tracing
        self._lease_s = lease_s
        self._clock, self._chance = clock, chance

    async def run(self, call: Call) -> None:
        """Make an attempt, and write down what came of it, again and again while the store is away and the lease can hold.
        Raises store.StoreUnavailable: then nothing was written, and the call is taken again once its lease is over."""
        settings = self._functions.of(call.queue).retry
        started = self._clock()
        verdict: Verdict
        if (dead := before(call, settings, started)) is not None:
            response = Response(answer=Answer(0, failure=dead.reason))
            verdict = dead
            if call.outcome is not None:
                response = Response(answer=Answer(call.outcome.status, call.outcome.headers))
        else:
            trace = self._tracing.begin(call) if self._tracing is not None else None
            told = call if trace is None else msgspec.structs.replace(call, headers=trace.told(call.headers))
            response = await self._carry(told)
            ended = self._clock()
            judged = after(call, response.answer, settings, ended, self._chance)
            if isinstance(judged, Postponed):
                await asyncio.sleep(BUSY_S)  # its place stays taken: so less is sent to who is busy
                await self._store.release([call.lease], self._clock())
                return
            verdict = judged
            if self._tracing is not None and trace is not None:
                self._tracing.end(trace, call, response.answer, verdict, started, ended)
        self._attempted(call, verdict)
        await self._write(call.lease, call, response, verdict, started)

    async def _carry(self, call: Call) -> Response:
        carrier = self._carriers.get(call.queue.partition("#")[2])
        if carrier is None:
            return Response(answer=Answer(0, failure=f"nothing here carries out calls of {call.queue}"))
        try:
            return await carrier.carry(call)
        except KeyError:
            return Response(answer=Answer(0, failure="the call's body is not there any more"))
        except OSError as error:
            return Response(answer=Answer(0, failure=f"the answer could not be kept: {error.strerror or error}"))

    async def _write(self, lease: Lease, call: Call, response: Response, verdict: Verdict, started: float) -> None:
        now = self._clock()
        answer = response.answer
        outcome = Outcome(
            status=answer.status,
            headers=tuple([field for field in answer.headers if not _NOT_KEPT[field[0]]]),
            reason="" if isinstance(verdict, Succeeded) else verdict.reason,
            started=started,
            ended=now,
            cut=response.cut,
        )
        if isinstance(verdict, Again):
            if not isinstance(response.body, bytes):
                await asyncio.to_thread(response.body.unlink, missing_ok=True)
            due = verdict.due
            await self._until_kept(lambda: self._store.retry(lease, due, outcome, now))
            return
        state = State.DEAD if isinstance(verdict, Dead) else State.SUCCEEDED

        async def finish() -> None:
            then = self._follow(call, state, outcome, response)
            body = second_name(response.body)  # the store takes a file also when it fails
            await self._store.finish(lease, state, outcome, now, body=body, then=then)

        try:
            await self._until_kept(finish)
        finally:
            if not isinstance(response.body, bytes):
                response.body.unlink(missing_ok=True)

    async def _until_kept(self, write: Callable[[], Awaitable[object]]) -> None:
        """Write something that the lease guards: doing so again is harmless when it was done after all."""
        pause_s = REPEATED_FIRST_S
        last = self._clock() + self._lease_s
        while True:
            try:
                await write()
                return
            except StoreUnavailable:
                if self._clock() + pause_s > last:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(REPEATED_LAST_S, pause_s * 2)


def _with_its_line(response: Response) -> Response:
    """Note the first line of a short body: where the platform itself answered, it says why."""
    if not isinstance(response.body, bytes):
        return response
    line = response.body[: 4 * LONGEST_LINE].decode(errors="replace").strip().partition("\n")[0].strip()[:LONGEST_LINE]
    return msgspec.structs.replace(response, answer=msgspec.structs.replace(response.answer, said=line))


def _host(headers: Headers) -> str:
    for name, value in headers:
        if _HOST[name]:
            return value
    return ""
