"""Submissions that come in the same turn of the loop are kept by one write of the store's.

Each of them is as if it had come alone: when they cannot be kept together because a queue is full, they are tried one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final, Protocol

from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.edge.refusal import Refusal

TOGETHER_AT_MOST: Final = 128


class Submitter(Protocol):
    """Who waits for the answer to one submission."""

    def accepted(self, call_id: str) -> None:
        """The call is kept."""

    def refused(self, refusal: Refusal) -> None:
        """It is not, and this is why."""

    def close(self) -> None:
        """Nothing can be said: something failed that nobody foresaw."""


class Gathering:
    """`keep` keeps submissions, all or none, and `refusal` says what to answer when it could not; `begin` lets work go on whose
    end somebody waits for."""

    def __init__(
        self,
        keep: Callable[[Sequence[Submission]], Awaitable[list[Receipt]]],
        refusal: Callable[[QueueFull | StoreUnavailable, Submission], Refusal],
        begin: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        self._keep, self._refusal, self._begin = keep, refusal, begin
        self._asked: list[tuple[Submission, Submitter]] = []

    def add(self, wanted: Submission, submitter: Submitter) -> None:
        """Keep a call and answer, some time after this turn of the loop."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._go)
        self._asked.append((wanted, submitter))

    def _go(self) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), TOGETHER_AT_MOST):
            self._begin(self._answer(asked[start : start + TOGETHER_AT_MOST]))

    async def _answer(self, asked: list[tuple[Submission, Submitter]]) -> None:
        try:
            receipts = await self._keep([wanted for wanted, _ in asked])
        except QueueFull as full:
            if len(asked) > 1:
                await asyncio.gather(*(self._answer([one]) for one in asked))
            else:
                wanted, submitter = asked[0]
                submitter.refused(self._refusal(full, wanted))
        except StoreUnavailable as error:
            refusal = self._refusal(error, asked[0][0])
            for _, submitter in asked:
                submitter.refused(refusal)
        except Exception:
            for _, submitter in asked:
                submitter.close()
            raise
        else:
            for (_, submitter), receipt in zip(asked, receipts, strict=True):
                submitter.accepted(receipt.id)
