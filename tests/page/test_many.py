"""The list with as many functions as a machine may have."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from gateway.control.app import control_app
from gateway.control.auth import Auth
from gateway.control.info import About
from gateway.control.origin import Hosts
from gateway.edge.tally import Tally
from gateway.monitor.monitor import Monitor
from orchestration.events import FunctionChanged
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from tests.fakes.builder import FakeBuilder
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.conftest import serving
from tests.page.conftest import CHROMIUM, Tab

FUNCTIONS = 500


async def _serve(folder: Path, url: list[str], ready: threading.Event, over: threading.Event) -> None:
    orchestrator = FakeOrchestrator()
    tallies: dict[FunctionId, Tally] = {}
    monitor = Monitor(orchestrator, lambda: tallies, dict)
    for number in range(FUNCTIONS):
        function = await orchestrator.apply(FunctionSpec(service=f"function-{number:03}", image="x"))
        monitor.apply(FunctionChanged(function))
        tally = tallies[FunctionId("openfaas-fn", function.spec.service)] = Tally()
        for _ in range(number % 7):
            tally.count(200, 0.01)
    app = control_app(
        orchestrator=orchestrator,
        builder=FakeBuilder(),
        auth=Auth(None, b"x"),
        hosts=Hosts(),
        invocations=lambda function: 0,
        about=About("0"),
        data_dir=folder,
        monitor=monitor,
    )
    async with monitor, serving(app) as client:
        url.append(f"http://{client.host}:{client.port}/ui/")
        ready.set()
        while not over.is_set():  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.05)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A control API with 500 functions, served by a thread of its own."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    url: list[str] = []
    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(tmp_path, url, ready, over)))
    thread.start()
    assert ready.wait(20)
    yield url[0]
    over.set()
    thread.join(20)


def test_five_hundred_functions_are_shown_at_once(tab: Tab, address: str) -> None:
    tab.page.add_init_script(
        """addEventListener('DOMContentLoaded', () => {
          const look = new MutationObserver(() => {
            if (document.querySelectorAll('tbody tr').length < 500) return
            look.disconnect()
            requestAnimationFrame(() => setTimeout(() => (window.shownMs = performance.now())))
          })
          look.observe(document.body, { childList: true, subtree: true })
        })"""
    )
    tab.page.goto(address)
    expect(tab.page.locator("tbody tr")).to_have_count(FUNCTIONS)
    tab.page.wait_for_function("window.shownMs")
    first, shown = tab.page.evaluate("[performance.getEntriesByName('first-contentful-paint')[0].startTime, window.shownMs]")
    print(f"\nfirst paint after {first:.0f} ms, {FUNCTIONS} functions shown after {shown:.0f} ms")
    assert tab.complaints == []
