"""The metrics page over HTTP: with a login on the API, without one on its own port."""

from __future__ import annotations

from gateway.control.metrics import metrics_app
from gateway.control.origin import Hosts
from gateway.metrics.page import MetricsPage
from telemetry.exposition import OPENMETRICS, TEXT
from tests.gateway.control.client import Client
from tests.gateway.control.conftest import serving
from tests.gateway.metrics.reading import read_text


async def test_the_api_asks_for_a_login(client: Client) -> None:
    assert (await client("GET", "/metrics", login=False)).status == 401
    answer = await client("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, TEXT)
    assert any(f.name == "python_info" for f in read_text(answer.text))


async def test_openmetrics_is_had_by_asking(client: Client) -> None:
    answer = await client("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"] == OPENMETRICS
    assert answer.text.endswith("# EOF\n")


async def test_the_port_of_its_own_asks_for_none_but_keeps_web_pages_away() -> None:
    async with serving(metrics_app(MetricsPage(), Hosts())) as client:
        assert (await client("GET", "/metrics", login=False)).status == 200
        assert (await client("GET", "/healthz", login=False)).status == 200
        assert (await client("GET", "/metrics", headers={"Origin": "http://evil.example"})).status == 403
        assert (await client("GET", "/metrics", headers={"Host": "evil.example"})).status == 403
        assert (await client("GET", "/system/functions")).status == 404


async def test_who_should_get_no_work_is_not_ready_and_lives() -> None:
    trouble = ["cut off"]
    async with serving(metrics_app(MetricsPage(), Hosts(), trouble=lambda: trouble[0])) as client:
        answer = await client("GET", "/readyz", login=False)
        assert (answer.status, answer.text) == (503, "cut off\n")
        assert (await client("GET", "/healthz", login=False)).status == 200
        trouble[0] = ""
        assert (await client("GET", "/readyz", login=False)).status == 200
