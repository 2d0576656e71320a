"""Short bodies stay in their rows, long ones are files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.asynchronous.bodies import CHUNK_BYTES, Bodies
from gateway.asynchronous.calls import INLINE_BYTES, Body
from gateway.asynchronous.store import StoreUnavailable


async def test_a_short_body_is_no_file_and_a_long_one_is_read_in_pieces(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path / "bodies")
    assert await bodies.stored(b"a" * INLINE_BYTES) == (INLINE_BYTES, b"a" * INLINE_BYTES, None)
    long = os.urandom(CHUNK_BYTES + 1)
    size, data, name = await bodies.stored(long)
    assert (size, data) == (len(long), None) and name is not None
    pieces = [piece async for piece in bodies.chunks(Body(size, None, name))]
    assert b"".join(pieces) == long and [len(piece) for piece in pieces] == [CHUNK_BYTES, 1]
    await bodies.removed([name, name])
    with pytest.raises(KeyError):
        _ = [piece async for piece in bodies.chunks(Body(size, None, name))]


async def test_a_body_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = Bodies(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        await bodies.stored(b"a" * (INLINE_BYTES + 1))
    assert list(tmp_path.iterdir()) == []


def test_what_no_row_names_goes_but_folders_stay(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path)
    for name in ("named", "left"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "lost+found").mkdir()
    bodies.keep_only({"named"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lost+found", "named"]


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "bodies").write_bytes(b"a file")
    with pytest.raises(StoreUnavailable, match="bodies: File exists"):
        Bodies(tmp_path / "bodies")
    bodies = Bodies(tmp_path / "other")
    (tmp_path / "other").rmdir()
    with pytest.raises(StoreUnavailable, match="other: No such file"):
        bodies.keep_only(())
