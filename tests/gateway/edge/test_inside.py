"""Two ends of a connection within the process: what holds for a socket holds for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.edge.inside import HIGH_BYTES, LOW_BYTES, join


class End(asyncio.Protocol):
    """Notes what happens to it."""

    def __init__(self, stays: bool = False) -> None:
        self.came: list[bytes] = []
        self.told: list[str] = []
        self.stays = stays
        self.transport: asyncio.Transport
        self.on_data: Callable[[bytes], object] = self.came.append

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.on_data(data)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def eof_received(self) -> bool:
        self.told.append("end")
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(f"lost {type(exc).__name__}" if exc else "lost")


def joined(*, stays: bool = False) -> tuple[End, End]:
    one, other = End(stays), End(stays)
    join(one, other)
    return one, other


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_written_comes_in_order_and_not_in_the_same_turn() -> None:
    one, other = joined()
    for n in range(3):
        one.transport.write(b"%d" % n)
    other.transport.write(b"back")
    assert (one.came, other.came) == ([], [])
    await turns()
    assert (one.came, b"".join(other.came)) == ([b"back"], b"012")


async def test_who_does_not_read_makes_the_other_pause() -> None:
    one, other = joined()
    other.transport.pause_reading()
    piece = b"x" * (LOW_BYTES // 2)
    written = 0
    while not one.told:
        one.transport.write(piece)
        written += len(piece)
    await turns()
    assert (one.told, other.came, one.transport.get_write_buffer_size()) == (["pause"], [], written)
    assert HIGH_BYTES < written <= HIGH_BYTES + len(piece)
    other.transport.resume_reading()
    await turns()
    assert (one.told, len(b"".join(other.came)), one.transport.get_write_buffer_size()) == (["pause", "resume"], written, 0)


async def test_who_pauses_while_it_reads_gets_nothing_more() -> None:
    one, other = joined()

    def take(data: bytes) -> None:
        other.came.append(data)
        other.transport.pause_reading()

    other.on_data = take
    one.transport.write(b"a" * HIGH_BYTES)
    one.transport.write(b"b")
    await turns()
    assert [data[:1] for data in other.came] == [b"a"]
    other.transport.resume_reading()
    await turns()
    assert [data[:1] for data in other.came] == [b"a", b"b"]


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_the_end_is_seen_after_what_was_written_before_it(leave: str) -> None:
    one, other = joined()
    other.transport.pause_reading()
    one.transport.write(b"last words")
    getattr(one.transport, leave)()
    one.transport.write(b"too late")
    await turns()
    assert (one.told, one.transport.is_closing(), other.told) == (["lost"], True, [])
    other.transport.resume_reading()
    await turns()
    assert (other.came, other.told, other.transport.is_closing()) == ([b"last words"], ["end", "lost"], True)


async def test_one_direction_may_end_alone() -> None:
    one, other = joined(stays=True)
    one.transport.write(b"question")
    one.transport.write_eof()
    await turns()
    assert (other.came, other.told) == ([b"question"], ["end"])
    other.transport.write(b"answer")
    other.transport.close()
    await turns()
    assert (one.came, one.told, other.told) == ([b"answer"], ["end"], ["end", "lost"])


async def test_who_writes_to_one_that_is_gone_is_told() -> None:
    one, other = joined()
    one.transport.pause_reading()
    other.transport.abort()
    await turns()
    assert one.told == []
    one.transport.write(b"anybody?")
    await turns()
    assert one.told == ["lost BrokenPipeError"]


async def test_who_waits_for_room_of_one_that_goes_is_told() -> None:
    one, other = joined()
    other.transport.pause_reading()
    one.transport.pause_reading()
    one.transport.write(b"x" * (HIGH_BYTES + 1))
    other.transport.abort()
    await turns()
    assert one.told == ["pause", "lost BrokenPipeError"]


async def test_a_protocol_that_fails_breaks_the_connection_and_is_told_of() -> None:
    one, other = joined()

    def fail(data: bytes) -> None:
        raise ValueError("no good")

    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    other.on_data = fail
    one.transport.write(b"x")
    await turns()
    assert (one.told, other.told) == (["end", "lost"], ["lost"])
    assert [str(context["exception"]) for context in told] == ["no good"]
