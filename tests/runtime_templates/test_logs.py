from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from pinnace_runtime.logs import LINE_LIMIT_BYTES, MARK, LineWriter


class Pipe:
    """A line writer on a pipe, and what has come out of it."""

    def __init__(self, *, frames: bool) -> None:
        self._r, self._w = os.pipe()
        os.set_blocking(self._r, False)
        self.writer = LineWriter(self._w, frames=frames)

    def read(self) -> bytes:
        try:
            return os.read(self._r, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self._r)
        os.close(self._w)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(frames=True)
    yield pipe
    pipe.close()


@pytest.fixture
def call() -> Iterator[str]:
    token = MARK.set("c1")
    yield "c1"
    MARK.reset(token)


def test_lines_outside_of_calls_have_no_frame(pipe: Pipe) -> None:
    pipe.writer.write(b"a\nb\n")
    assert pipe.read() == b"a\nb\n"


def test_each_line_of_a_call_has_its_frame(pipe: Pipe, call: str) -> None:
    pipe.writer.write(b"a\n\nb\n")
    assert pipe.read() == b"\x1ec1\x1fa\n\x1ec1\x1f\n\x1ec1\x1fb\n"


def test_without_frames_lines_are_as_they_are(call: str) -> None:
    pipe = Pipe(frames=False)
    pipe.writer.write(b"a\n")
    assert pipe.read() == b"a\n"
    pipe.close()


def test_a_line_is_written_when_it_is_whole(pipe: Pipe, call: str) -> None:
    pipe.writer.write(b"a")
    assert pipe.read() == b""
    pipe.writer.write(b"b\nc")
    assert pipe.read() == b"\x1ec1\x1fab\n"


def test_the_end_of_a_call_ends_its_last_line(pipe: Pipe, call: str) -> None:
    pipe.writer.write(b"a")
    pipe.writer.end_call("another")
    assert pipe.read() == b""
    pipe.writer.end_call(call)
    assert pipe.read() == b"\x1ec1\x1fa\n"
    assert not pipe.writer.has_unfinished


def test_threads_do_not_mix_their_lines(pipe: Pipe) -> None:
    barrier = threading.Barrier(2, timeout=10)

    def write(call_id: str) -> None:
        MARK.set(call_id)
        for piece in (b"x", b"y", b"\n"):
            barrier.wait()
            pipe.writer.write(call_id.encode() + piece if piece != b"\n" else piece)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("p", "q")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(pipe.read().splitlines()) == [b"\x1ep\x1fpxpy", b"\x1eq\x1fqxqy"]


def test_an_executor_that_copies_the_context_writes_under_the_call(pipe: Pipe, call: str) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(copy_context().run, pipe.writer.write, b"a\n").result(10)
    assert pipe.read() == b"\x1ec1\x1fa\n"


def test_a_line_without_an_end_is_cut_at_the_limit(call: str) -> None:
    written: list[bytes] = []
    reader, pipe = threading.Event(), Pipe(frames=True)
    os.set_blocking(pipe._r, True)

    def read() -> None:
        size = 0
        while size < LINE_LIMIT_BYTES:
            written.append(os.read(pipe._r, 1 << 20))
            size += len(written[-1])
        reader.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    pipe.writer.write(b"x" * (LINE_LIMIT_BYTES + 1))
    assert reader.wait(10)
    assert not pipe.writer.has_unfinished
    thread.join(10)
    pipe.close()


def test_a_reader_that_left_does_not_fail_the_writer(pipe: Pipe) -> None:
    r, w = os.pipe()
    os.close(r)
    assert LineWriter(w, frames=True).write(b"a\n") == 2
    os.close(w)
