from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec
import pytest

from autoscaler import history as history_module
from autoscaler.history import History
from autoscaler.keep_alive import KeepAlive
from orchestration.names import FunctionId

HELLO, OTHER = FunctionId("openfaas-fn", "hello"), FunctionId("dev", "hello")
NOTHING = KeepAlive().dump()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "idle-times"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def learn(path: Path, *functions: FunctionId) -> bytes:
    """Leave a file in which each function has one idle time of 300 s; return what that is."""
    async with History(path) as history:
        for function in functions:
            history.keep_alive(function).idle(300)
        return history.keep_alive(functions[0]).dump()


async def test_what_was_learnt_is_there_after_a_restart(path: Path) -> None:
    learnt = await learn(path, HELLO)
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == learnt
        assert history.keep_alive(OTHER).dump() == NOTHING
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["idle-times"]


async def test_one_function_is_one_object(path: Path) -> None:
    await learn(path, HELLO)
    async with History(path) as history:
        assert history.keep_alive(HELLO) is history.keep_alive(HELLO)


async def test_what_nobody_asked_for_is_kept(path: Path) -> None:
    learnt = await learn(path, HELLO, OTHER)
    async with History(path) as history:
        history.keep_alive(OTHER).idle(60)
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == learnt


async def test_functions_that_are_gone_are_forgotten(path: Path) -> None:
    await learn(path, HELLO, OTHER)
    async with History(path) as history:
        history.forget(HELLO)
        history.forget(HELLO)
        assert history.keep_alive(HELLO).dump() == NOTHING
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == NOTHING
        assert history.keep_alive(OTHER).dump() != NOTHING


async def test_without_a_file_it_starts_empty(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == NOTHING
    assert not caplog.records  # a first start is nothing to tell of
    assert not path.exists()  # nothing was learnt


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        os.urandom(1000),
        msgspec.msgpack.encode(["pinnace idle times", 99, []]),
        msgspec.msgpack.encode(["something else", 1, []]),
        msgspec.msgpack.encode(["pinnace idle times", 1, [["openfaas-fn", "hello", "yesterday", b""]]]),
    ],
    ids=["empty", "text", "noise", "newer", "foreign", "mistyped"],
)
async def test_what_is_not_its_file_is_said_once_and_replaced(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    learnt = await learn(path, HELLO)
    (message,) = said(caplog)
    assert message.startswith(f"{path} does not hold learnt idle times, starting with none: ")
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == learnt


async def test_a_truncated_file_is_none(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await learn(path, HELLO, OTHER)
    path.write_bytes(path.read_bytes()[:-7])
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == NOTHING
    assert len(said(caplog)) == 1


async def test_one_damaged_function_costs_only_itself(path: Path) -> None:
    await learn(path, HELLO, OTHER)
    document = msgspec.msgpack.decode(path.read_bytes())
    for row in document[2]:
        if row[:2] == list(HELLO):
            row[3] = b"damaged"
    path.write_bytes(msgspec.msgpack.encode(document))
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == NOTHING
        assert history.keep_alive(OTHER).dump() != NOTHING


async def test_a_file_that_is_far_too_large_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await learn(path, HELLO)
    monkeypatch.setattr(history_module, "LARGEST_BYTES", 50)
    async with History(path) as history:
        assert history.keep_alive(HELLO).dump() == NOTHING
    assert "larger than 50 bytes" in said(caplog)[0]


async def test_a_file_that_cannot_be_read_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    async with History(path) as history:
        history.keep_alive(HELLO).idle(300)
    read, written = said(caplog)
    assert read.startswith(f"learnt idle times cannot be read from {path}, starting with none: ")
    assert written.startswith(f"learnt idle times cannot be written to {path} (tried again): ")
    assert [file.name for file in path.parent.iterdir()] == ["idle-times"]


async def test_a_full_disk_is_said_once_and_survived(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "idle-times"
    (tmp_path / "idle-times.new").symlink_to("/dev/full")
    async with History(path) as history:
        for _ in range(3):
            (tmp_path / "idle-times.new").unlink(missing_ok=True)
            (tmp_path / "idle-times.new").symlink_to("/dev/full")
            history.keep_alive(HELLO).idle(300)
            await history.save()
        assert [message.partition(": ")[2] for message in said(caplog)] == ["No space left on device"]
        assert not path.exists()
        await history.save()  # nothing was learnt since, but nothing is written yet either
        assert path.exists()
        history.keep_alive(HELLO).idle(300)
        (tmp_path / "idle-times.new").symlink_to("/dev/full")
        await history.save()
        assert len(said(caplog)) == 2  # it had worked in between


async def test_nothing_is_written_while_nothing_changes(path: Path) -> None:
    async with History(path) as history:
        history.keep_alive(HELLO).idle(300)
        await history.save()
        path.unlink()
        history.keep_alive(HELLO).idle(0.5)
        history.keep_alive(OTHER)
        await history.save()
    assert not path.exists()


async def test_changes_are_written_by_themselves(path: Path) -> None:
    async with History(path, every_s=0.01) as history:
        history.keep_alive(HELLO).idle(300)
        async with asyncio.timeout(10):
            while not path.exists():  # noqa: ASYNC110  # a file has no event
                await asyncio.sleep(0.005)


async def test_of_too_many_functions_those_that_changed_last_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MOST_FUNCTIONS", 3)
    now = 1000.0
    functions = [FunctionId("openfaas-fn", f"f{i}") for i in range(5)]
    async with History(path, wall=lambda: now) as history:
        for function in functions:
            now += 1
            history.keep_alive(function).idle(300)
            await history.save()
        now += 1
        history.keep_alive(functions[0]).idle(300)
    async with History(path) as history:
        kept = [function.name for function in functions if history.keep_alive(function).count]
    assert kept == ["f0", "f3", "f4"]


async def test_a_new_file_takes_the_place_of_the_old_one_whole(path: Path) -> None:
    await learn(path, HELLO)
    with path.open("rb") as old:
        before = os.fstat(old.fileno()).st_ino
        await learn(path, HELLO, OTHER)
        assert path.stat().st_ino != before
        assert msgspec.msgpack.decode(old.read())[0] == "pinnace idle times"
