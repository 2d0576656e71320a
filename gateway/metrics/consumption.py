"""What functions' replicas use, measured when somebody asks, under the names of the kubelet's metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from orchestration.names import FunctionId
from orchestration.orchestrator import Consumption
from telemetry import metrics
from telemetry.exposition import head, line

Measure = Callable[[], Awaitable[Mapping[FunctionId, Consumption]]]
FRESH_S: Final = 1.0


class Consumptions:
    """Writes what `measure` gave last; `refresh` measures again, at most once a second however many ask."""

    def __init__(self, measure: Measure, clock: Callable[[], float] = time.monotonic) -> None:
        self._measure = measure
        self._clock = clock
        self._measured: Mapping[FunctionId, Consumption] = {}
        self._measured_at = float("-inf")
        self._one = asyncio.Lock()

    async def refresh(self) -> None:
        """Measure, unless that was done a moment ago."""
        async with self._one:
            if self._clock() - self._measured_at >= FRESH_S:
                self._measured = await self._measure()
                self._measured_at = self._clock()

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        used = [((str(function), function.namespace), consumption) for function, consumption in self._measured.items()]
        yield head(metrics.CPU, openmetrics)
        for labels, consumption in used:
            yield line(metrics.CPU, labels, consumption.cpu_s)
        yield head(metrics.MEMORY, openmetrics)
        for labels, consumption in used:
            yield line(metrics.MEMORY, labels, consumption.memory_bytes)
