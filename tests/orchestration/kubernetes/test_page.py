"""The page of a platform whose functions run on a cluster, in a browser; the test is the kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from orchestration.kubernetes.api import DEPLOYMENTS, FUNCTIONS
from orchestration.kubernetes.client import Cluster
from tests.end_to_end.platform import Platform
from tests.orchestration.kubernetes.api_server import ApiServer
from tests.orchestration.kubernetes.test_apart import Apart, Process, apart, deployed
from tests.orchestration.kubernetes.test_end_to_end import Pod, pod
from tests.orchestration.kubernetes.world import World, eventually
from tests.page.conftest import CHROMIUM, FLAGS, LONGEST_MS

__all__ = ["apart"]  # a fixture


@pytest.fixture
async def served(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[Platform]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    platform = Platform(tmp_path, "--orchestration", "kubernetes", "--kubeconfig", str(api_server.kubeconfig))
    await asyncio.to_thread(platform.start)
    yield platform
    await asyncio.to_thread(platform.stop)


@pytest.fixture
async def page(served: Platform) -> AsyncIterator[Page]:
    link = (await asyncio.to_thread(served.faas, "dashboard", "--url")).stdout.strip()
    async with browsing(link) as page:
        yield page


@contextlib.asynccontextmanager
async def browsing(link: str) -> AsyncIterator[Page]:
    """A page in a browser, which may complain of nothing."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(LONGEST_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(link)
        yield page
        await browser.close()
    assert complaints == []


async def test_a_function_on_a_cluster_is_deployed_called_scaled_and_removed(
    page: Page, cluster: Cluster, world: World
) -> None:
    def section(title: str):  # type: ignore[no-untyped-def]
        return page.get_by_role("region", name=title, exact=True)

    await page.get_by_role("link", name="Deploy").click()
    await expect(page.get_by_text("Where the image is pushed")).to_be_visible()
    await page.get_by_role("button", name="An image").click()
    await expect(page.get_by_text("One that the cluster can pull.")).to_be_visible()
    await page.get_by_label("Name", exact=True).fill("hello")
    await page.get_by_label("Namespace").select_option(world.namespace)
    await page.get_by_label("Image").fill("registry.test/hello:1")
    await page.get_by_label("To zero when nobody calls it").check()
    await page.get_by_role("button", name="Deploy", exact=True).click()
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    name = await world.make_pod("hello-00001")
    async with pod(11) as function:
        function.lets.set()
        await world.run_pod(name, address=function.address)
        await expect(page.get_by_role("heading", name="hello", exact=True)).to_be_visible()
        await expect(section("Replicas")).to_contain_text(name)
        await expect(section("Replicas")).to_contain_text("Running")
        await expect(section("Scaling")).to_contain_text("to zero after")
        await expect(section("Revisions and traffic")).to_contain_text("100 %")
        await page.get_by_role("spinbutton", name="Replicas").fill("0")
        await page.get_by_role("button", name="Scale").click()
        await expect(page.get_by_role("log", name="News")).to_contain_text("is to have 0 replicas")
        await world.remove_pod(name)
        await expect(section("Replicas")).to_contain_text("the next call starts one")

    await page.get_by_label("Path and query").fill("/cold")
    await page.get_by_role("button", name="Call", exact=True).click()

    async def woken() -> bool:
        return bool((await cluster.get(DEPLOYMENTS, world.namespace, "hello-00001"))["spec"]["replicas"] == 1)

    await eventually(woken)
    name = await world.make_pod("hello-00001")
    async with pod(12, Pod) as function:
        function.lets.set()
        await world.run_pod(name, address=function.address, ready=False)
        result = section("Call it").get_by_role("status")
        await expect(result).to_contain_text("200")
        await expect(result).to_contain_text(function.address)
        await expect(section("Last calls")).to_contain_text(re.compile("cold start: .*replica started"))
        await page.get_by_role("button", name="Remove", exact=True).click()
        await page.get_by_role("button", name="Remove hello").click()
        await expect(page.get_by_role("heading", name="Functions", exact=True)).to_be_visible()
    assert await world.get(FUNCTIONS, "hello") is None


async def test_what_does_not_start_says_why_and_what_kubectl_applies_is_listed(page: Page, world: World) -> None:
    await world.kubectl_apply("applied")
    await eventually(lambda: world.get(DEPLOYMENTS, "applied-00001"))
    name = await world.make_pod("applied-00001")
    await page.get_by_role("searchbox").fill(f"applied.{world.namespace}")
    line = page.get_by_role("row", name=re.compile("applied"))
    await expect(line).to_be_visible()
    await world.fail_pod(name, "ImagePullBackOff", "no such image")
    await line.get_by_role("link", name="applied").click()
    replicas = page.get_by_role("region", name="Replicas", exact=True)
    await expect(replicas).to_contain_text("no such image")


@pytest.mark.timeout(120)
async def test_an_edge_of_its_own_shows_what_all_edges_do(apart: Apart, world: World) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    await apart.start("controller")
    control, edge, other = await asyncio.gather(apart.control(), apart.start("edge"), apart.start("edge"))
    path = await deployed(control, world, "spread")

    async def answers(edge: Process) -> bool:
        return (await edge.get(path))[0] == 200

    name = await world.make_pod("spread-00001")
    async with pod(14) as function:
        function.lets.set()
        await world.run_pod(name, address=function.address)
        for each in (edge, other):
            await eventually(functools.partial(answers, each))
        async with browsing(f"http://127.0.0.1:{edge.port}/ui/#/f/{world.namespace}/spread") as page:
            await expect(page.get_by_role("region", name="Replicas", exact=True)).to_contain_text("Running")
            await expect(page.get_by_role("region", name="Scaling", exact=True)).to_contain_text("never to zero")
            for _ in range(2):
                assert await other.get(path) == (200, function.address)
            await expect(page.locator(".totals").first).to_contain_text("4 calls")
            await expect(page.get_by_role("region", name="Last calls")).to_contain_text("GET 200")
