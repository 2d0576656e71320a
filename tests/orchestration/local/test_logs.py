"""Output of replicas: taken apart, kept within bounds, read back by tail, time and instance, followed."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.local.log_files import SEGMENTS, Entry, LogReader, LogWriter, rfc3339
from orchestration.local.logs import Logs
from orchestration.names import FunctionId, InvalidName
from orchestration.orchestrator import LogLine, LogQuery, NotFound
from tests.orchestration.local.world import until

HELLO = FunctionId("space", "hello")


@pytest.fixture
async def logs(place: Path) -> AsyncIterator[Logs]:
    async with Logs(place / "logs") as opened:
        yield opened


class Pipe:
    def __init__(self, logs: Logs, instance: str = "one", function: FunctionId = HELLO) -> None:
        self.logs, self.instance = logs, instance
        reading, self.fd = os.pipe()
        logs.attach(function, instance, (reading,))

    async def end(self) -> None:
        os.close(self.fd)
        await self.logs.drained(self.instance, 5)


async def read(logs: Logs, **query: object) -> list[LogLine]:
    return [line async for line in logs.read(LogQuery(function=HELLO, **query), exists=True)]  # type: ignore[arg-type]


async def test_lines_are_kept_with_instance_call_and_time(logs: Logs) -> None:
    pipe = Pipe(logs)
    before = time.time_ns()
    os.write(pipe.fd, b"\x1ecall-7\x1fin a call\noutside\n")
    await pipe.end()
    first, second = await read(logs)
    assert (first.text, first.call_id, first.instance, first.name, first.namespace) == (
        "in a call",
        "call-7",
        "one",
        "hello",
        "space",
    )
    assert (second.text, second.call_id) == ("outside", "")
    assert rfc3339(before) < first.timestamp < second.timestamp < rfc3339(time.time_ns())
    assert logs.last_line("one") == "outside"


async def test_lines_of_a_traced_call_carry_its_trace(logs: Logs) -> None:
    pipe, trace = Pipe(logs), "4bf92f3577b34da6a3ce929d0e0e4736"
    os.write(pipe.fd, b"\x1e%b %b\x1ftraced\n\x1ecall-8\x1fnot\n" % (b"c" * 128, trace.encode()))
    await pipe.end()
    assert [(line.text, line.call_id, line.trace_id) for line in await read(logs)] == [
        ("traced", "c" * 128, trace),
        ("not", "call-8", ""),
    ]
    assert [line.text for line in await read(logs, call="c" * 128)] == ["traced"]


async def test_tail_since_and_instance_choose(logs: Logs) -> None:
    for instance in ("one", "two"):
        pipe = Pipe(logs, instance)
        os.write(pipe.fd, b"".join(f"{instance} {n}\n".encode() for n in range(5)))
        await pipe.end()
    assert [line.text for line in await read(logs, tail=3)] == ["two 2", "two 3", "two 4"]
    assert [line.text for line in await read(logs, tail=2, instance="one")] == ["one 3", "one 4"]
    assert len(await read(logs, tail=100)) == 10
    assert await read(logs, since=time.time() + 10) == []
    assert len(await read(logs, since=time.time() - 10)) == 10


async def test_who_never_wrote_and_is_not_deployed_is_not_found(logs: Logs) -> None:
    with pytest.raises(NotFound):
        _ = [line async for line in logs.read(LogQuery(function=HELLO), exists=False)]
    assert await read(logs) == []


async def test_the_platforms_own_lines_stand_among_the_others(logs: Logs) -> None:
    pipe = Pipe(logs)
    os.write(pipe.fd, b"before\n")
    await pipe.end()
    logs.say(HELLO, "one", "the process ended", "call-1")
    await until(lambda: LogReader(logs._folder / "space" / "hello", call="call-1").read())
    assert [(line.text, line.call_id, line.instance) for line in await read(logs)] == [
        ("before", "", "one"),
        ("the process ended", "call-1", "one"),
    ]


async def test_what_an_earlier_function_of_the_name_wrote_goes_and_its_replicas_write_no_more(logs: Logs) -> None:
    other = FunctionId("space", "hello-too")
    kept, old = Pipe(logs, "kept", other), Pipe(logs, "old")
    os.write(kept.fd, b"stays\n")
    os.write(old.fd, b"secret of the old one\n")
    await kept.end()
    await until(lambda: logs.last_line("old"))
    logs.clear(*HELLO)
    new = Pipe(logs, "new")
    os.write(old.fd, b"its last words\n")
    os.write(new.fd, b"new\n")
    await old.end()
    await new.end()
    assert [line.text for line in await read(logs)] == ["new"]
    assert logs.last_line("old") == "its last words"
    lines = logs.read(LogQuery(function=other), exists=True)
    assert [line.text async for line in lines] == ["stays"]
    logs.clear("space")
    await until(lambda: not list(logs._folder.glob("*/*/*.log")))


@pytest.mark.parametrize("function", [FunctionId("..", "hello"), FunctionId("space", "../space/hello"), FunctionId("", "x")])
async def test_names_that_would_leave_the_folder_are_refused(logs: Logs, function: FunctionId) -> None:
    for exists in (False, True):
        with pytest.raises(InvalidName):
            _ = [line async for line in logs.read(LogQuery(function=function), exists=exists)]


async def test_output_goes_on_in_a_new_file_after_one_that_could_not_be_opened(
    logs: Logs, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LogWriter.__init__, "__defaults__", (100,))
    pipe = Pipe(logs)
    real = os.open
    opened: list[Path] = []

    def scarce(path: Path, *arguments: int) -> int:
        if str(path).endswith("00000002.log") and not opened:
            opened.append(path)
            raise OSError(24, "Too many open files")
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", scarce)
    os.write(pipe.fd, b"x" * 200 + b"\n")
    await until(lambda: opened and not logs._writers)
    with (place / "stranger").open("wb") as stranger:  # gets the number of the file that was closed
        os.write(pipe.fd, b"after\n")
        await pipe.end()
        assert os.fstat(stranger.fileno()).st_size == 0
    assert [line.text for line in await read(logs)] == ["x" * 200, "after"]
    assert [record.message.partition(":")[0] for record in caplog.records] == ["output of functions is lost"]


def test_a_segment_that_cannot_be_opened_leaves_the_writer_with_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(place / "f", segment_bytes=10)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            writer.write([Entry(1, "i", "one")])
    writer.write([Entry(2, "i", "two")])
    writer.close()
    assert [entry.x for entry in LogReader(place / "f").read()] == ["one", "two"]


async def test_a_follower_gets_what_comes(logs: Logs) -> None:
    pipe = Pipe(logs)
    os.write(pipe.fd, b"old\n")
    await pipe.end()
    pipe = Pipe(logs)
    lines = logs.read(LogQuery(function=HELLO, tail=1, follow=True), exists=True)
    async with asyncio.timeout(20):
        assert (await anext(lines)).text == "old"
        coming = asyncio.ensure_future(anext(lines))
        os.write(pipe.fd, b"new\n")
        assert (await coming).text == "new"
    await lines.aclose()  # type: ignore[attr-defined]
    await pipe.end()


async def test_a_heavy_logger_leaves_the_loop_alone_and_files_stay_bounded(logs: Logs, place: Path) -> None:
    pipe = Pipe(logs)
    os.set_blocking(pipe.fd, False)
    loop = asyncio.get_running_loop()
    line, written = b"x" * 200 + b"\n", 0

    async def longest_turn_s() -> float:
        """The longest turn of the loop in a second of writing all that the pipe takes."""
        nonlocal written
        longest_s, deadline = 0.0, loop.time() + 1.0
        while (began := loop.time()) < deadline:
            try:
                written += os.write(pipe.fd, line * 300)
            except BlockingIOError:
                await asyncio.sleep(0.001)
            longest_s = max(longest_s, loop.time() - began)
        return longest_s

    for _ in range(5):  # a machine with other work takes the processor away now and then, but not in each second
        if (longest_s := await longest_turn_s()) < 0.1:
            break
    await pipe.end()
    assert written > 1 << 20
    assert longest_s < 0.1
    assert len(await read(logs, tail=10)) == 10


def test_old_segments_go_and_a_slow_reader_goes_on_with_the_oldest(place: Path) -> None:
    writer = LogWriter(place / "f", segment_bytes=1000)
    reader = LogReader(place / "f")
    writer.write([Entry(1, "i", "first")])
    assert [entry.x for entry in reader.read()] == ["first"]
    for n in range(100):
        writer.write([Entry(n, "i", f"line {n:03}")])
    writer.close()
    assert len(list((place / "f").iterdir())) == SEGMENTS
    found = []
    while entries := reader.read():
        found += [entry.x for entry in entries]
    assert found == [f"line {n:03}" for n in range(100 - len(found), 100)]
    assert 20 < len(found) < 100


def test_a_line_cut_by_a_crash_is_skipped(place: Path) -> None:
    writer = LogWriter(place / "f")
    writer.write([Entry(1, "i", "whole")])
    writer.close()
    with (place / "f" / "00000001.log").open("ab") as file:
        file.write(b'{"t":2,"i":"i","x":"cu')
    writer = LogWriter(place / "f")
    writer.write([Entry(3, "i", "after")])
    writer.close()
    assert [entry.x for entry in LogReader(place / "f").read()] == ["whole", "after"]


@given(st.integers(1, 40), st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_the_tail_is_the_end_of_everything(tail: int, lengths: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = LogWriter(Path(folder) / "f", segment_bytes=400)
        for n, length in enumerate(lengths):
            writer.write([Entry(n, "i", f"{n} " + "é" * length)])
        writer.close()
        everything = LogReader(Path(folder) / "f")
        kept = []
        while entries := everything.read():
            kept += entries
        reader = LogReader(Path(folder) / "f")
        reader.seek_tail(tail)
        found = []
        while entries := reader.read():
            found += entries
        assert found == kept[-tail:]


async def test_one_call_is_found_among_others_also_from_the_end(logs: Logs) -> None:
    pipe = Pipe(logs)
    for number in range(50):
        os.write(pipe.fd, b"\x1ecall-%d\x1fstep %d\n" % (number % 5, number))
    await pipe.end()
    assert [line.text for line in await read(logs, call="call-3")] == [f"step {n}" for n in range(3, 50, 5)]
    assert [line.text for line in await read(logs, call="call-3", tail=2)] == ["step 43", "step 48"]
    assert await read(logs, call="call-9", tail=2) == []


async def test_what_nobody_wrote_to_for_too_long_goes(place: Path) -> None:
    async with Logs(place / "logs") as logs:
        for name in ("old", "young"):
            pipe = Pipe(logs, name, FunctionId("space", name))
            os.write(pipe.fd, b"a line\n")
            await pipe.end()
    old = place / "logs" / "space" / "old" / "00000001.log"
    os.utime(old, (1_700_000_000, 1_700_000_000))
    async with Logs(place / "logs", keep_s=3600.0, age_every_s=0.01):
        await until(lambda: not old.exists())
    assert (place / "logs" / "space" / "young" / "00000001.log").exists()


async def test_the_quota_takes_the_oldest_first(place: Path) -> None:
    async with Logs(place / "logs", quota_bytes=200_000) as logs:
        for number in range(6):
            function = FunctionId("space", f"f{number}")
            pipe = Pipe(logs, f"i{number}", function)
            for _ in range(10):
                os.write(pipe.fd, b"x" * 6000 + b"\n")
            await pipe.end()
    kept = sorted(path.parent.name for path in (place / "logs").glob("*/*/*.log"))
    assert "f0" not in kept
    assert "f5" in kept
    assert sum(path.stat().st_size for path in (place / "logs").glob("*/*/*.log")) < 260_000
