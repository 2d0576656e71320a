"""The recent load of every function, kept to be replayed: what edges told, at 28 bytes a sample.

Samples come each second while a function is active, so that an idle function costs nothing and a busy one 100 KB an hour;
nothing of this is on the path of a call. Two bounds hold: one for each function, one for all of them together. What is oldest
goes first, in chunks.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import Final

from orchestration.load import LoadSample
from orchestration.load_history import LoadHistory
from orchestration.names import FunctionId

FUNCTION_BYTES: Final = 256 * 1024
"""9,362 samples: 2.6 hours of steady load, or some thousand single calls."""
TOTAL_BYTES: Final = 64 * 1024 * 1024
CHUNK_SAMPLES: Final = 512

_FIELDS: Final = 7
_SAMPLE_BYTES: Final = 4 * _FIELDS
_MOST: Final = (1 << 32) - 1


class _Chunk:
    """Up to CHUNK_SAMPLES samples: milliseconds since `base`, then what they say, as unsigned numbers of 32 bits."""

    __slots__ = ("base", "function", "numbers")

    def __init__(self, function: FunctionId, base: float) -> None:
        self.function = function
        self.base = base
        self.numbers = array("I")


class _Kept:
    """One function's chunks; `since` is from when on nothing is missing."""

    __slots__ = ("chunks", "since")

    def __init__(self, since: float) -> None:
        self.chunks: list[_Chunk] = []
        self.since = since


class Recording:
    """Keeps samples. `wall` gives Unix seconds."""

    def __init__(
        self, wall: Callable[[], float] = time.time, *, function_bytes: int = FUNCTION_BYTES, total_bytes: int = TOTAL_BYTES
    ) -> None:
        self._wall = wall
        self._most_chunks = max(2, function_bytes // (CHUNK_SAMPLES * _SAMPLE_BYTES))
        self._total_bytes = total_bytes
        self._bytes = 0
        self._functions: dict[FunctionId, _Kept] = {}
        self._oldest: deque[_Chunk] = deque()
        self._edges: dict[str, int] = {}

    def sample(self, sample: LoadSample) -> None:
        """Keep what an edge told just now."""
        now = self._wall()
        function = FunctionId(sample.namespace, sample.function)
        kept = self._functions.get(function)
        if kept is None:
            kept = self._functions[function] = _Kept(now - sample.interval_s)
        chunk = kept.chunks[-1] if kept.chunks else None
        if chunk is None or len(chunk.numbers) >= CHUNK_SAMPLES * _FIELDS or not 0 <= now - chunk.base < _MOST / 1000:
            chunk = _Chunk(function, now)
            kept.chunks.append(chunk)
            self._oldest.append(chunk)
            if len(kept.chunks) > self._most_chunks:
                self._drop(kept.chunks[0])
        interval_ms = sample.interval_s * 1000
        edge = self._edges.setdefault(sample.edge, len(self._edges))
        chunk.numbers.extend(
            (
                round((now - chunk.base) * 1000),
                _bounded(interval_ms),
                _bounded(sample.concurrency * interval_ms),
                _bounded(sample.arrivals),
                _bounded(sample.in_flight),
                _bounded(sample.queued),
                _bounded(edge),
            )
        )
        self._bytes += _SAMPLE_BYTES
        while self._bytes > self._total_bytes and self._oldest[0] is not chunk:
            self._drop(self._oldest[0])

    def forget(self, function: FunctionId) -> None:
        """The function is gone: so is what it was asked to do."""
        kept = self._functions.pop(function, None)
        if kept is not None:
            self._bytes -= sum(_size(chunk) for chunk in kept.chunks)
            self._oldest = deque(chunk for chunk in self._oldest if chunk.function != function)

    def history(self, function: FunctionId) -> LoadHistory:
        """Return what is kept of a function; nothing, for one that was never called."""
        kept = self._functions.get(function)
        if kept is None:
            return LoadHistory(since=self._wall())
        rows = [
            (chunk.base + chunk.numbers[i] / 1000, *chunk.numbers[i + 1 : i + _FIELDS])
            for chunk in kept.chunks
            for i in range(0, len(chunk.numbers), _FIELDS)
        ]
        at, interval_ms, area_ms, arrivals, in_flight, queued, edge = zip(*rows, strict=True)
        return LoadHistory(
            since=kept.since,
            at=tuple(round(moment, 3) for moment in at),
            interval_s=tuple(value / 1000 for value in interval_ms),
            concurrency=tuple(round(area / of, 6) if of else 0.0 for area, of in zip(area_ms, interval_ms, strict=True)),
            arrivals=arrivals,
            in_flight=in_flight,
            queued=queued,
            edge=edge,
        )

    @property
    def size_bytes(self) -> int:
        """How much the samples take."""
        return self._bytes

    def _drop(self, chunk: _Chunk) -> None:
        """Let go of a function's oldest chunk."""
        kept = self._functions[chunk.function]
        kept.chunks.pop(0)
        last = chunk.numbers[-_FIELDS] / 1000 if chunk.numbers else 0.0
        kept.since = chunk.base + last
        self._bytes -= _size(chunk)
        if self._oldest[0] is chunk:
            self._oldest.popleft()
        else:
            self._oldest.remove(chunk)
        if not kept.chunks:
            del self._functions[chunk.function]


def _size(chunk: _Chunk) -> int:
    return len(chunk.numbers) // _FIELDS * _SAMPLE_BYTES


def _bounded(value: float) -> int:
    return min(_MOST, max(0, round(value)))
