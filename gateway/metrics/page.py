"""The page as a whole, written in slices: calls go on between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from telemetry.exposition import OPENMETRICS, TEXT, is_openmetrics

Source = Callable[[bool], Iterator[str]]
"""Yields whole lines, at most a function's worth at a time; told whether OpenMetrics is wanted."""

SLICE_S: Final = 0.001
"""For so long the page is written before others run. 1,000 busy functions are 4 MB and 60 ms in all."""
SENT_AT_ONCE: Final = 32 * 1024
"""Characters."""


class MetricsPage:
    """What `sources` say, one after the other, and then how this process does (prometheus-client's collectors). `refresh` is
    awaited first."""

    def __init__(self, sources: Sequence[Source] = (), refresh: Callable[[], Awaitable[None]] | None = None) -> None:
        self._sources = sources
        self._refresh = refresh
        self._process = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self._process.register(collector)

    def media_type(self, accept: str) -> str:
        """Return which of the two formats a client with this `Accept` header gets."""
        return OPENMETRICS if is_openmetrics(accept) else TEXT

    async def write(self, media_type: str) -> AsyncIterator[bytes]:
        """Yield the page in that format."""
        if self._refresh is not None:
            await self._refresh()
        openmetrics = media_type == OPENMETRICS
        pieces: list[str] = []
        size = 0
        began = time.perf_counter()
        for source in self._sources:
            for piece in source(openmetrics):
                pieces.append(piece)
                size += len(piece)
                if size >= SENT_AT_ONCE:
                    yield "".join(pieces).encode()
                    pieces, size = [], 0
                if time.perf_counter() - began >= SLICE_S:
                    await asyncio.sleep(0)
                    began = time.perf_counter()
        ours = "".join(pieces).encode()
        process: bytes = (generate_openmetrics if openmetrics else generate_latest)(self._process)
        yield ours + process
