"""Standard output and error of a replica: whole lines, each with the id of the call that wrote it.

`sys.stdout` and `sys.stderr` are replaced by text streams over a `LineWriter`, which collects what each call writes in
each thread until a line is complete, and then hands the line to the descriptor in one piece, however long it is. With
frames on, a line of a call is `\\x1e MARK \\x1f TEXT \\n` (without the spaces). The call is found through a context variable,
so it is right in threads, in asyncio tasks and in executors that copy the context.
"""

from __future__ import annotations

import _thread
import io
import os
import sys
from contextvars import ContextVar

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from _typeshed import ReadableBuffer

MARK: ContextVar[str] = ContextVar("pinnace_mark", default="")
"""What the lines of a call carry: `CALL-ID`, or `CALL-ID TRACE-ID` where it is traced."""

LINE_LIMIT_BYTES = 16 * 1024 * 1024

# One lock for both streams: they may be the same pipe, where writes of more than 4 KiB would mix.
_locks = [_thread.RLock()]
_writers: list[LineWriter] = []
_code = [""]


class LineWriter(io.RawIOBase):
    """Writes whole lines to `fd`. A line without an end in sight is cut at `LINE_LIMIT_BYTES`."""

    def __init__(self, fd: int, *, frames: bool) -> None:
        self._fd = fd
        self._frames = frames
        self._unfinished: dict[tuple[str, int], bytearray] = {}

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        data = bytes(data)
        writer = (MARK.get(), _thread.get_ident())
        with _locks[0]:
            end = data.rfind(b"\n") + 1
            if end:
                self.emit(writer[0], bytes(self._unfinished.pop(writer, b"")) + data[:end])
            if end < len(data):
                line = self._unfinished.setdefault(writer, bytearray())
                line += data[end:]
                if len(line) > LINE_LIMIT_BYTES:
                    self.emit(writer[0], bytes(self._unfinished.pop(writer)) + b"\n")
        return len(data)

    def end_call(self, mark: str) -> None:
        """Write what the call left without a line end."""
        with _locks[0]:
            for writer in [writer for writer in self._unfinished if writer[0] == mark]:
                self.emit(mark, bytes(self._unfinished.pop(writer)) + b"\n")

    def end_all(self) -> None:
        with _locks[0]:
            for mark in {writer[0] for writer in self._unfinished}:
                self.end_call(mark)

    @property
    def has_unfinished(self) -> bool:
        return bool(self._unfinished)

    def emit(self, mark: str, lines: bytes) -> None:
        """Write whole lines of a call. The caller holds the lock."""
        if self._frames and mark:
            frame = b"\x1e" + mark.encode("latin-1", "replace") + b"\x1f"
            lines = frame + lines[:-1].replace(b"\n", b"\n" + frame) + b"\n"
        _write_all(self._fd, lines)


def install(code: str, *, frames: bool) -> None:
    """Replace `sys.stdout` and `sys.stderr`. Call it before the handler is imported: log handlers keep what they find.

    `code` is the folder of the function's code, by which its part of a traceback is known.
    """
    _code[0] = code
    for name, fd in (("stdout", 1), ("stderr", 2)):
        writer = LineWriter(fd, frames=frames)
        _writers.append(writer)
        stream = _text_stream(writer)
        setattr(sys, name, stream)
    os.register_at_fork(after_in_child=_renew_lock)


def _text_stream(writer: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(writer, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)


def end_call(mark: str) -> None:
    """Write what the call printed without a line end: its last line is whole too."""
    for writer in _writers:
        if writer.has_unfinished:
            writer.end_call(mark)


def end_all() -> None:
    """Write every unfinished line: the process is about to end."""
    for writer in _writers:
        writer.end_all()


def log(text: str) -> None:
    """Write a line of the runtime's own to standard error, under the present call."""
    print(text, file=sys.stderr)


def tell(text: str, mark: str) -> None:
    """Write a line of the platform's own about the call of `mark`, also where a handler has closed or replaced `sys.stderr`."""
    with _locks[0]:
        for writer in _writers[1:]:
            writer.emit(mark, text.encode("utf-8", "backslashreplace") + b"\n")


def log_exception(error: BaseException) -> None:
    """Write the traceback of `error` to standard error: the function's part of it (see `tracebacks`)."""
    from pinnace_runtime.tracebacks import formatted

    sys.stderr.write(formatted(error, _code[0]))


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_writable(fd)
        except OSError:
            return  # nobody reads the log any more; that must not fail a call


def _wait_writable(fd: int) -> None:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(1000)


def _renew_lock() -> None:
    """A thread that does not exist in the child may have held the lock at the fork."""
    _locks[0] = _thread.RLock()
