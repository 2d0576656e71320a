"""The page: in slices, and whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from gateway.edge.figures import EdgeFigures, FunctionLoad
from gateway.edge.tally import Tally
from gateway.metrics.calls import Calls
from gateway.metrics.page import SENT_AT_ONCE, SLICE_S, MetricsPage
from orchestration.names import FunctionId
from telemetry.exposition import OPENMETRICS, TEXT
from tests.gateway.metrics.reading import read_openmetrics, read_text


def slow(openmetrics: bool) -> Iterator[str]:
    for _ in range(20):
        end = time.perf_counter() + SLICE_S
        while time.perf_counter() < end:
            pass
        yield "# nothing\n"


async def written(page: MetricsPage, media_type: str) -> list[bytes]:
    return [piece async for piece in page.write(media_type)]


async def test_others_run_between_slices() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await written(MetricsPage([slow]), TEXT)
    counting.cancel()
    assert turns >= 15


async def test_both_formats_end_with_this_process() -> None:
    text = b"".join(await written(MetricsPage(), TEXT)).decode()
    assert {f.name for f in read_text(text)} >= {"process_resident_memory_bytes", "python_info"}
    assert "_created" not in text
    open_ = b"".join(await written(MetricsPage(), OPENMETRICS)).decode()
    assert open_.endswith("# EOF\n")
    assert {f.name for f in read_openmetrics(open_)} >= {"process_resident_memory_bytes", "python_info"}


def test_the_format_is_what_the_client_prefers() -> None:
    page = MetricsPage()
    assert page.media_type("application/openmetrics-text") == OPENMETRICS
    assert page.media_type("") == TEXT


class Thousand:
    """An edge with 1,000 functions that were all called."""

    def __init__(self) -> None:
        self._tallies = {}
        for number in range(1000):
            tally = self._tallies[FunctionId("openfaas-fn", f"function-{number}")] = Tally()
            tally.started = 1
            tally.count(200, 0.01)

    def tallies(self) -> dict[FunctionId, Tally]:
        return self._tallies

    def loads(self) -> dict[FunctionId, FunctionLoad]:
        return {}

    def figures(self) -> dict[str, EdgeFigures]:
        return {"edge": EdgeFigures()}


async def test_a_thousand_functions_come_in_pieces_of_bounded_size() -> None:
    pieces = await written(MetricsPage([Calls(Thousand())]), TEXT)
    assert max(map(len, pieces)) < 2 * SENT_AT_ONCE
    counted = [f for f in read_text(b"".join(pieces).decode()) if f.name == "gateway_function_invocation"]
    assert len(counted[0].samples) == 1000
