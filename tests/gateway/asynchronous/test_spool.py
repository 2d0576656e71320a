"""A body is in memory while it is short, in a file when it is long, and nowhere when it is not wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.asynchronous.calls import INLINE_BYTES
from gateway.asynchronous.spool import HELD_BYTES, Spool


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
