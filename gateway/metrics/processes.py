"""What the platform's own processes use, read from /proc when somebody asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from telemetry import metrics
from telemetry.exposition import bound_texts, head, histogram, line
from telemetry.histogram import Histogram
from telemetry.metrics import Metric

LAG_EVERY_S: Final = 0.25
LAG_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_LAG_BOUNDS: Final = bound_texts(LAG_BOUNDS_S)


class Process(NamedTuple):
    """CPU seconds so far, bytes resident, files open."""

    cpu_s: float
    resident_bytes: int
    open_files: int


def read(pid: int, root: Path = Path("/proc")) -> Process | None:
    """Return what the process uses; None when it is gone or somebody else's."""
    folder = root / str(pid)
    try:
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        files = (folder / "fd").stat().st_size or sum(1 for _ in (folder / "fd").iterdir())  # from Linux 6.2 on the size is it
    except OSError:
        return None
    return Process((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE_BYTES, files)


_OF_PROCESS: Final[tuple[tuple[Metric, Callable[[Process], float]], ...]] = (
    (metrics.PROCESS_CPU, lambda process: process.cpu_s),
    (metrics.PROCESS_MEMORY, lambda process: process.resident_bytes),
    (metrics.PROCESS_FILES, lambda process: process.open_files),
)


class LoopLag:
    """Watches how late the running loop is, four times a second, while entered."""

    def __init__(self) -> None:
        self.seconds = Histogram(LAG_BOUNDS_S)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    async def __aenter__(self) -> Self:
        self._next()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + LAG_EVERY_S
        self._timer = loop.call_at(self._due, self._rang)

    def _rang(self) -> None:
        self.seconds.observe(LAG_BOUNDS_S, max(0.0, asyncio.get_running_loop().time() - self._due))
        self._next()


class Processes:
    """Writes the metrics of the processes that `pids` names, and how late this one's loop was."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], lag: LoopLag) -> None:
        self._pids = pids
        self._lag = lag

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        found = [((name,), process) for name, pid in sorted(self._pids().items()) if (process := read(pid)) is not None]
        for metric, figure in _OF_PROCESS:
            yield head(metric, openmetrics)
            for name, process in found:
                yield line(metric, name, figure(process))
        yield head(metrics.LOOP_LAG, openmetrics)
        yield histogram(metrics.LOOP_LAG, (), _LAG_BOUNDS, self._lag.seconds, openmetrics)
