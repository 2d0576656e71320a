"""Metrics that are measured: what Prometheus answers and what it may not, and what is told when nothing can be known."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from autoscaler.measuring import Measuring, NoPrometheus, Prometheus, Unmeasurable, value_of
from autoscaler.scaler import Scaler
from orchestration.names import FunctionId
from orchestration.orchestrator import Usage
from orchestration.spec import FunctionSpec
from tests.deploy.prometheus import serving
from tests.fakes.orchestrator import FakeOrchestrator

HELLO = FunctionId("openfaas-fn", "hello")


def vector(*values: object) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [0, v]} for v in values]}}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (vector("3", "4.5"), 7.5),
        ({"data": {"resultType": "scalar", "result": [0, "12"]}}, 12.0),
        (vector("0"), 0.0),
    ],
)
def test_a_query_has_one_value(answer: dict[str, Any], value: float) -> None:
    assert value_of(answer) == value


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (vector(), "no series"),
        (vector("NaN"), "nan"),
        (vector("-1"), "from 0 on"),
        ({"data": {"resultType": "matrix", "result": []}}, "an instant vector or a scalar"),
        ({"data": {"resultType": "vector", "result": [{}]}}, "no query result"),
        ([], "no query result"),
    ],
)
def test_what_is_no_value_is_said(answer: Any, words: str) -> None:
    with pytest.raises(Unmeasurable, match=words):
        value_of(answer)


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
        status, body = (200, json.dumps(vector("42"))) if query == "up" else (400, '{"error": "parse error: \\n bad"}')
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Silent."""


@pytest.fixture
def prometheus() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_prometheus_is_asked(prometheus: str) -> None:
    assert await Prometheus(prometheus + "/").ask("up") == 42
    with pytest.raises(Unmeasurable, match="Prometheus answers 400: parse error: bad"):
        await Prometheus(prometheus).ask("up{")


@pytest.fixture
def real_prometheus(tmp_path: Path) -> Iterator[str]:
    """Debian's Prometheus, which knows nothing but itself."""
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    with serving(tmp_path) as url:
        yield url


async def test_a_real_prometheus_answers_and_says_what_is_wrong(real_prometheus: str) -> None:
    prometheus = Prometheus(real_prometheus)
    assert await prometheus.ask("scalar(vector(7)) + 5") == 12
    assert await prometheus.ask("vector(3) or vector(4)") == 3
    with pytest.raises(Unmeasurable, match="no series"):
        await prometheus.ask("nothing_of_that_name")
    with pytest.raises(Unmeasurable, match=r"answers 400: .*parse error"):
        await prometheus.ask("sum(")
    with pytest.raises(Unmeasurable, match="gives a matrix"):
        await prometheus.ask("up[5m]")


async def test_a_prometheus_that_is_not_there_is_named() -> None:
    with pytest.raises(Unmeasurable, match=r"Prometheus at http://127\.0\.0\.1:1 does not answer"):
        await Prometheus("http://127.0.0.1:1").ask("up")
    with pytest.raises(Unmeasurable, match="--prometheus-url"):
        await NoPrometheus().ask("up")


async def deployed(labels: dict[str, str]) -> tuple[FakeOrchestrator, Scaler]:
    orchestrator = FakeOrchestrator()
    await orchestrator.apply(FunctionSpec(service="hello", image="x", labels=labels))
    scaler = Scaler(orchestrator)
    events = orchestrator.watch()
    for _ in range(2):
        scaler.apply(await anext(events))
    await events.aclose()  # type: ignore[attr-defined]
    return orchestrator, scaler


async def has(orchestrator: FakeOrchestrator, replicas: int) -> None:
    async with asyncio.timeout(20):
        while orchestrator.status(HELLO).replicas != replicas:  # noqa: ASYNC110  # nobody tells of counts
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("kind", "target", "replicas"), [("cpu", "500", 4), ("memory", "100", 3)])
async def test_usage_decides(kind: str, target: str, replicas: int) -> None:
    orchestrator, scaler = await deployed({"com.openfaas.scale.type": kind, "com.openfaas.scale.target": target})
    async with scaler, Measuring(scaler, orchestrator, NoPrometheus(), every_s=3600) as measuring:
        await measuring.measure()
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert explained.trouble == f"{kind} of the function's replicas cannot be measured here"
        orchestrator.usages[HELLO] = Usage(1800.0, 250 * 1024.0 * 1024.0)
        await measuring.measure()
        await has(orchestrator, replicas)
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert (explained.trouble, explained.changes[0].replicas) == ("", replicas)


async def test_a_query_decides_every_round(prometheus: str) -> None:
    labels = {"com.openfaas.scale.type": "orders", "com.openfaas.scale.target": "10", "com.pinnace.scale.query": "up"}
    orchestrator, scaler = await deployed(labels)
    async with scaler, Measuring(scaler, orchestrator, Prometheus(prometheus), every_s=0.01):
        await has(orchestrator, 5)
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert explained.changes[0].reason.startswith("42 by the query over")
