"""A body is in memory while it is short, in a file when it is long, and nowhere when it is not wanted."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from gateway.asynchronous.calls import INLINE_BYTES
from gateway.asynchronous.spool import HELD_BYTES, Spool
from tests.gateway.edge.lab import eventually


class Sender:
    """Notes whether it is to pause."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def spool(self, folder: Path) -> Spool:
        return Spool(folder, lambda: self.told.append("pause"), lambda: self.told.append("resume"))


async def test_a_short_body_is_bytes(tmp_path: Path) -> None:
    spool = Sender().spool(tmp_path)
    spool.feed(b"a" * INLINE_BYTES)
    assert await spool.whole() == b"a" * INLINE_BYTES
    assert list(tmp_path.iterdir()) == []


async def test_a_long_body_is_a_file_of_its_owner_only(tmp_path: Path) -> None:
    spool = Sender().spool(tmp_path)
    pieces = [bytes([n]) * 1000 for n in range(100)]
    for piece in pieces:
        spool.feed(piece)
        await asyncio.sleep(0)
    path = await spool.whole()
    assert isinstance(path, Path) and path.read_bytes() == b"".join(pieces) and path.stat().st_mode & 0o777 == 0o600


async def test_who_sends_more_than_the_disk_takes_is_to_pause(tmp_path: Path) -> None:
    sender = Sender()
    spool = sender.spool(tmp_path)
    spool.feed(b"a" * (HELD_BYTES + 1))
    assert sender.told == ["pause"]
    await spool.whole()
    assert sender.told == ["pause", "resume"]


async def test_what_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    spool = Sender().spool(tmp_path)
    spool.feed(b"a" * (INLINE_BYTES + 1))
    await asyncio.sleep(0)
    await spool.discard()
    assert list(tmp_path.iterdir()) == []


async def test_a_body_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    spool = Sender().spool(tmp_path / "none")
    for _ in range(3):
        spool.feed(b"a" * INLINE_BYTES)
        await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="No such file"):
        await spool.whole()


async def test_who_sends_is_not_left_paused_when_the_disk_fails(tmp_path: Path) -> None:
    sender = Sender()
    spool = sender.spool(tmp_path / "none")
    spool.feed(b"a" * (HELD_BYTES + 1))
    with pytest.raises(OSError, match="No such file"):
        await spool.whole()
    spool.feed(b"a" * (HELD_BYTES + 1))
    assert sender.told == ["pause", "resume"] and spool.size == 2 * (HELD_BYTES + 1)


async def test_a_descriptor_is_not_closed_while_a_thread_writes_though_nobody_waits_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, goes_on, wrote = threading.Event(), threading.Event(), threading.Event()
    write = os.write

    def slow(descriptor: int, data: memoryview) -> int:
        writes.set()
        goes_on.wait(5)
        try:
            return write(descriptor, data)
        finally:
            wrote.set()

    monkeypatch.setattr(os, "write", slow)
    spool = Sender().spool(tmp_path)
    spool.feed(b"a" * (INLINE_BYTES + 1))
    await asyncio.to_thread(writes.wait, 5)
    waiting = asyncio.create_task(spool.whole())
    await asyncio.sleep(0)
    waiting.cancel()  # an attempt that is broken off
    clearing = asyncio.create_task(spool.discard())
    await asyncio.wait([waiting, clearing], timeout=0.05)
    clearing.cancel()
    await asyncio.gather(clearing, return_exceptions=True)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    goes_on.set()
    await asyncio.to_thread(wrote.wait, 5)
    await eventually(lambda: [path.name for path in tmp_path.iterdir()] == ["other"])
    assert os.fstat(other).st_size == 0
    os.close(other)
