"""A function's output on disk: numbered segments of JSON lines, the oldest of which go when there are too many.

`logs/NAMESPACE/FUNCTION/00000007.log` holds lines as `{"t": NANOSECONDS, "i": INSTANCE, "x": TEXT, "c": CALL-ID}`, with
`"r": TRACE-ID` where a call is traced. A reader is a position (segment, offset) that moves forward; it needs nothing of the
writer, so a slow one holds nothing up, and one that is so slow that its segment is gone goes on with the oldest there is.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from orchestration.names import FunctionId
from orchestration.orchestrator import LogLine

SEGMENT_BYTES = 8 << 20
SEGMENTS = 2
READ_BYTES = 256 << 10


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """`t` is Unix time in nanoseconds, `i` the instance, `x` the text, `c` the call id, `r` the id of its trace."""

    t: int
    i: str
    x: str
    c: str = ""
    r: str = ""

    def line(self, function: FunctionId) -> LogLine:
        return LogLine(function.name, function.namespace, self.i, rfc3339(self.t), self.x, self.c, self.r)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


def rfc3339(nanoseconds: int) -> str:
    """Return `2026-03-01T12:00:00.000000005Z`."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments there are, oldest first."""
    try:
        found = [(int(path.stem), path) for path in folder.iterdir() if path.suffix == ".log" and path.stem.isdigit()]
    except OSError:
        return []
    return sorted(found)


class LogWriter:
    """Appends to the segments of one function. Used by one thread."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = segments(folder)
        self._number = there[-1][0] if there else 1
        self._fd, self._size = _segment(self._path(self._number))

    def write(self, entries: list[Entry]) -> None:
        """Append; raises OSError when the disk does not take it, and then nothing of a line is left half written."""
        content = b"".join(_ENCODER.encode(entry) + b"\n" for entry in entries)
        written = 0
        try:
            while written < len(content):
                written += os.write(self._fd, content[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += written
        if self._size >= self._segment_bytes:
            fd, size = _segment(self._path(self._number + 1))
            os.close(self._fd)
            self._fd, self._size = fd, size
            self._number += 1
            for _, path in segments(self._folder)[:-SEGMENTS]:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.log"


def _segment(path: Path) -> tuple[int, int]:
    """Open a segment for appending; return its file and its size."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            size += os.write(fd, b"\n")  # the last line was cut by a crash: it is skipped when read
    except OSError:
        os.close(fd)
        raise
    return fd, size


class LogReader:
    """Reads one function's segments forward from a position. Blocks: use it in a thread."""

    def __init__(self, folder: Path, instance: str = "", since_ns: int = 0, call: str = "") -> None:
        self._folder = folder
        self._instance = instance
        self._since_ns = since_ns
        self._call = call
        self._number = 0
        self._offset = 0

    def seek_tail(self, lines: int) -> None:
        """Go to where the last `lines` matching lines begin."""
        wanted = lines
        for number, path in reversed(segments(self._folder)):
            self._number, self._offset = number, 0
            for offset, line in _backward(path):
                entry = self._wanted(line)
                if entry is not None and (wanted := wanted - 1) == 0:
                    self._offset = offset
                    return
                if entry is None and self._before(line):
                    self._offset = offset
                    return

    def read(self) -> list[Entry]:
        """Return the next entries that match, about `READ_BYTES` of file at most; empty at the end."""
        while True:
            there = segments(self._folder)
            current = next(((number, path) for number, path in there if number >= self._number), None)
            if current is None:
                if not there:
                    return []
                current = there[0]  # all that we knew is gone, and numbers began anew
            if current[0] != self._number:
                self._number, self._offset = current[0], 0
            content = _chunk(current[1], self._offset)
            self._offset += len(content)
            found = [entry for line in content.splitlines() if (entry := self._wanted(line)) is not None]
            if found:
                return found
            if not content:
                if current[0] == there[-1][0]:
                    return []
                self._number += 1
                self._offset = 0

    def _wanted(self, line: bytes) -> Entry | None:
        try:
            entry = _DECODER.decode(line)
        except msgspec.DecodeError:
            return None
        wanted = entry.t >= self._since_ns and self._instance in ("", entry.i) and self._call in ("", entry.c)
        return entry if wanted else None

    def _before(self, line: bytes) -> bool:
        """Whether the line is older than all that is asked for."""
        try:
            return _DECODER.decode(line).t < self._since_ns
        except msgspec.DecodeError:
            return False


def _chunk(path: Path, offset: int) -> bytes:
    """Return whole lines from `offset` on: about `READ_BYTES`, or one line that is longer."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(READ_BYTES)
            while content and b"\n" not in content:
                more = file.read(READ_BYTES)
                if not more:
                    return b""
                content += more
            return content[: content.rfind(b"\n") + 1]
    except OSError:
        return b""


def _backward(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset, line)` of a file's whole lines, the last one first."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            rest = b""
            while end > 0:
                start = max(0, end - READ_BYTES)
                file.seek(start)
                content = file.read(end - start) + rest
                head, newline, tail = content.partition(b"\n") if start else (b"", b"", content)
                if start and not newline:
                    rest, end = content, start
                    continue
                offset = start + len(head) + len(newline)
                lines = []
                for line in tail.split(b"\n")[: -1 if tail.endswith(b"\n") else None]:
                    lines.append((offset, line))
                    offset += len(line) + 1
                yield from reversed([entry for entry in lines if entry[1]])
                rest, end = head + newline, start
    except OSError:
        return
