"""A book in the Redis server that keeps the calls: whichever controller leads goes on where another one ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.asynchronous.redis.server import Server
from gateway.asynchronous.redis.settings import RedisSettings
from gateway.asynchronous.store import StoreUnavailable
from gateway.timers.book import BookUnavailable, Mark, TimerId
from orchestration.names import FunctionId
from orchestration.timers import Timer

READ_AT_ONCE: Final = 200
"""So many marks are read before others have the loop: 1 ms."""
_FIELD: Final = msgspec.json.Decoder(tuple[str, str, str, str])
_VALUE: Final = msgspec.json.Decoder(Mark)


class RedisBook:
    """One hash: a field for each timer. `close` lets go of the connection.

    A mark that the server loses with its last second is made up for: the run's call has the same idempotency key.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._server = Server(settings, silent=True)  # the calls' store has the same one, and tells of it
        self._key = f"{self._server.key}:timers"

    async def read(self) -> dict[TimerId, Mark]:
        try:
            said: list[bytes] | dict[bytes, bytes] = await self._server.command("HGETALL", self._key)
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None
        pairs = said.items() if isinstance(said, dict) else zip(said[::2], said[1::2], strict=True)
        marks: dict[TimerId, Mark] = {}
        for number, (field, value) in enumerate(pairs, 1):
            marks[_timer(field)] = _VALUE.decode(value)
            if number % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
        return marks

    async def write(self, marks: Mapping[TimerId, Mark], gone: Iterable[TimerId] = ()) -> None:
        try:
            if marks:
                pairs = [part for timer, mark in marks.items() for part in (_field(timer), msgspec.json.encode(mark))]
                await self._server.command("HSET", self._key, *pairs)
            if removed := [_field(timer) for timer in gone]:
                await self._server.command("HDEL", self._key, *removed)
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None

    async def close(self) -> None:
        """Let go."""
        await self._server.close()


def _field(timer: TimerId) -> bytes:
    return msgspec.json.encode((*timer.function, timer.timer.expression, timer.timer.zone))


def _timer(field: bytes) -> TimerId:
    namespace, name, expression, zone = _FIELD.decode(field)
    return TimerId(FunctionId(namespace, name), Timer(expression, zone))
