"""Carries out callbacks, which are calls of the queue with a URL: a `carrier.Carrier`, and what workers ask besides."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.asynchronous.caller import Response
from gateway.asynchronous.calls import Body, Call, Headers, Outcome, State, Submission
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.retry import Again, Answer, Succeeded, Verdict
from gateway.asynchronous.spool import second_name
from gateway.callbacks.callback import KIND, SIGNED_BY, callback, callback_url
from gateway.callbacks.keys import Keys, NoSecret
from gateway.callbacks.sending import Sender
from gateway.callbacks.signature import SIGNATURE, TIMESTAMP, Seal
from gateway.callbacks.target import Guard
from orchestration.queueing import QueueSettings, RetrySettings

log = logging.getLogger("pinnace.callbacks")

RETRY_FOR_S: Final = 3600.0
QUEUE: Final = QueueSettings(
    concurrency=8,
    retry=RetrySettings(
        attempts=1000,
        codes=frozenset({408, 425, 429, *range(500, 600)}),
        least_wait_s=1.0,
        longest_wait_s=300.0,
    ),
)
"""How the callbacks about one function's calls are carried out: few at a time, and for as long as their time lasts. What is
neither 2xx nor one of the codes is the receiver's last word."""


class Fate(enum.StrEnum):
    """What an attempt came to: the receiver has it, it is tried again, it is given up, it may not go there."""

    SENT = "sent"
    RETRIED = "retried"
    FAILED = "failed"
    REFUSED = "refused"


class Callbacks:
    """`guard` says where callbacks may go, `keys` sign them, `chunks` reads bodies. Each is tried for `retry_for_s`."""

    def __init__(
        self,
        guard: Guard,
        sender: Sender,
        keys: Keys,
        functions: Functions,
        chunks: Callable[[Body], AsyncIterator[bytes]],
        retry_for_s: float = RETRY_FOR_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.counts = dict.fromkeys(Fate, 0)
        self._guard = guard
        self._sender = sender
        self._keys = keys
        self._functions = functions
        self._chunks = chunks
        self._retry_for_s = retry_for_s
        self._wall = wall
        self._refused: set[str] = set()

    def check(self, headers: Headers) -> None:
        """See to it that a submission with these headers names a URL that may be, or none. Raises InvalidCallback."""
        if url := callback_url(headers):
            self._guard.check(url)

    async def carry(self, call: Call) -> Response:
        """Send a callback once."""
        said = dict(call.headers)
        now = int(self._wall())
        try:
            keys = await self._keys.of(call.function.namespace, said.pop(SIGNED_BY, ""))
        except NoSecret as error:
            return Response(answer=Answer(0, failure=f"it cannot be signed: {error}"))
        seal = Seal(keys, said.get("X-Call-Id", ""), said.get("X-Function-Status", ""), now)
        async for piece in self._chunks(call.body):
            seal.update(piece)
        kept = (header for header in call.headers if header[0] != SIGNED_BY)
        headers = (*kept, (TIMESTAMP, str(now)), (SIGNATURE, seal.value()))
        sent = await self._sender.send(call.url, headers, partial(self._chunks, call.body), call.body.size)
        if sent.refused:
            self._refused.add(call.id)
        failure = "" if sent.taken else sent.reason or f"the receiver answered {sent.status}"
        final = sent.refused or bool(failure and sent.status and sent.status not in QUEUE.retry.codes)
        retry_after = (("Retry-After", sent.retry_after),) if sent.retry_after else ()
        return Response(answer=Answer(sent.status, retry_after, failure, final))

    def attempted(self, call: Call, verdict: Verdict) -> None:
        """Count what came of an attempt, of a callback or not."""
        if not call.queue.endswith(f"#{KIND}"):
            return
        refused = call.id in self._refused
        self._refused.discard(call.id)
        if isinstance(verdict, Succeeded):
            fate = Fate.SENT
        elif isinstance(verdict, Again):
            fate = Fate.RETRIED
        else:
            fate = Fate.REFUSED if refused else Fate.FAILED
            log.warning("callback %s about a call of %s is given up: %s", call.id, call.function, verdict.reason)
        self.counts[fate] += 1

    def follow(self, call: Call, state: State, outcome: Outcome, response: Response) -> Sequence[Submission]:
        """Return the callback that follows from a call's end, if one is wanted."""
        if call.url or not callback_url(call.headers):
            return ()
        return self._told(call, state, outcome, second_name(response.body))

    def cancelled(self, call: Call) -> Sequence[Submission]:
        """Return the callback that follows from a call's cancellation, if one is wanted: without a response, though one came
        of an attempt before."""
        last = call.outcome or Outcome()
        return self._told(call, State.CANCELLED, Outcome(reason="cancelled", started=last.started, ended=last.ended), b"")

    def _told(self, call: Call, state: State, outcome: Outcome, body: bytes | Path) -> Sequence[Submission]:
        settings = self._functions.of(call.queue)
        wanted = callback(
            call,
            state,
            outcome,
            body,
            self._wall(),
            most_attempts=settings.retry.attempts,
            retry_for_s=self._retry_for_s,
            signed_by=settings.callback_secret,
        )
        return () if wanted is None else (wanted,)
