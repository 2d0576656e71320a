"""What a sender of events is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.cloudevents import router as router_module
from gateway.cloudevents.router import Router
from orchestration.events import FunctionChanged
from orchestration.orchestrator import Namespace
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client
from tests.gateway.control.conftest import Kept

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.made"}
JSON = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


@pytest.fixture(autouse=True)
async def functions(orchestrator: FakeOrchestrator, router: Router) -> None:
    for name, wants in (("all", "*"), ("made", "type=*.made")):
        annotations = {"com.pinnace.events": wants}
        router.apply(FunctionChanged(await orchestrator.apply(FunctionSpec(service=name, image=name, annotations=annotations))))


def body(**more: object) -> bytes:
    return json.dumps(EVENT | more).encode()


async def test_an_event_in_json_is_told_who_gets_it(client: Client, kept: Kept) -> None:
    answer = await client("POST", "/events", body(data={"a": 1}), JSON | {"traceparent": "00-1-2-01"})
    assert answer.status == 202
    assert answer.json() == {
        "events": [
            {
                "id": "1",
                "source": "/shop",
                "functions": [
                    {"function": "all", "namespace": "openfaas-fn", "callId": "call-0", "repeated": False},
                    {"function": "made", "namespace": "openfaas-fn", "callId": "call-1", "repeated": False},
                ],
            }
        ]
    }
    one, _ = kept.calls.values()
    assert one.body == b'{"a": 1}'
    assert ("Content-Type", "application/json") in one.headers
    assert ("traceparent", "00-1-2-01") in one.headers


async def test_an_event_in_headers(client: Client, kept: Kept) -> None:
    headers = {f"ce-{name}": value for name, value in EVENT.items()} | {"Content-Type": "text/plain"}
    answer = await client("POST", "/events", b"the data", headers)
    assert answer.status == 202
    assert [one.body for one in kept.calls.values()] == [b"the data"] * 2


async def test_a_batch_and_the_same_again(client: Client, kept: Kept) -> None:
    batch = json.dumps([EVENT, EVENT | {"id": "2", "type": "other"}]).encode()
    for repeated in (False, True):
        told: list[dict[str, Any]] = (await client("POST", "/events", batch, BATCH)).json()["events"]
        assert [(one["id"], [f["function"] for f in one["functions"]]) for one in told] == [
            ("1", ["all", "made"]),
            ("2", ["all"]),
        ]
        assert {f["repeated"] for one in told for f in one["functions"]} == {repeated}
    assert len(kept.calls) == 3


@pytest.mark.parametrize(
    ("sent", "headers", "status", "text"),
    [
        (b"{}", JSON, 400, "specversion is missing: an event has"),
        (b"", {"Content-Type": "application/json"}, 400, "no event: ce-specversion and other headers"),
        (b"[{}]", BATCH, 400, "event 0 of the batch: specversion"),
        (b"x", {"Content-Type": "application/cloudevents+avro"}, 415, "application/cloudevents+avro is not understood"),
        (body(padding="x" * 20_000), JSON, 400, "more than 16384 bytes"),
    ],
)
async def test_what_is_no_event_is_refused(
    client: Client, kept: Kept, sent: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    answer = await client("POST", "/events", sent, headers)
    assert (answer.status, text in answer.text) == (status, True)
    assert not kept.calls


async def test_a_large_event_is_read_and_a_larger_one_is_not(client: Client, kept: Kept) -> None:
    assert (await client("POST", "/events", body(data="x" * 1_000_000), JSON)).status == 202
    headers = JSON | {"Content-Length": str((16 << 20) + 1)}
    assert (await client("POST", "/events", b"", headers)).status == 413


@pytest.mark.parametrize(("refusal", "status"), [(QueueFull("all.openfaas-fn is full"), 429), (StoreUnavailable("away"), 503)])
async def test_what_is_not_kept_is_not_acknowledged(client: Client, kept: Kept, refusal: Exception, status: int) -> None:
    kept.refusal = refusal
    answer = await client("POST", "/events", body(), JSON)
    assert answer.status == status
    assert answer.text == f"no event was taken: {refusal}\n"
    assert int(answer.headers["retry-after"]) > 0


async def test_one_request_makes_a_bounded_number_of_calls(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "MOST_CALLS", 1)
    assert (await client("POST", "/events", body(), JSON)).status == 413


async def test_a_namespace_has_its_own_functions(client: Client, orchestrator: FakeOrchestrator) -> None:
    assert (await client("POST", "/events?namespace=shop", body(), JSON)).status == 404
    await orchestrator.create_namespace(Namespace("shop"))
    answer = await client("POST", "/events?namespace=shop", body(), JSON)
    assert (answer.status, answer.json()["events"][0]["functions"]) == (202, [])


async def test_a_login_is_needed(client: Client, kept: Kept) -> None:
    assert (await client("POST", "/events", body(), JSON, login=False)).status == 401
    assert not kept.calls


async def test_who_would_get_an_event_is_told_without_keeping_it(client: Client, kept: Kept) -> None:
    batch = json.dumps([EVENT, EVENT | {"id": "2", "type": "other"}]).encode()
    answer = await client("POST", "/events/match", batch, BATCH)
    assert (answer.status, answer.json()["events"]) == (
        200,
        [
            {
                "id": "1",
                "source": "/shop",
                "functions": [
                    {"function": "all", "namespace": "openfaas-fn"},
                    {"function": "made", "namespace": "openfaas-fn"},
                ],
            },
            {"id": "2", "source": "/shop", "functions": [{"function": "all", "namespace": "openfaas-fn"}]},
        ],
    )
    assert not kept.calls
    assert (await client("POST", "/events/match", b"{}", JSON)).status == 400
    assert (await client("POST", "/events/match?namespace=shop", body(), JSON)).status == 404
    assert (await client("POST", "/events/match", body(), JSON, login=False)).status == 401


async def test_a_sender_that_asks_first_is_told_that_it_may(client: Client) -> None:
    asked = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
    answer = await client("OPTIONS", "/events", b"", asked)
    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["webhook-allowed-origin"] == "eventemitter.example.com"
    assert answer.headers["webhook-allowed-rate"] == "*"
    assert answer.headers["allow"] == "OPTIONS, POST"


async def test_nobody_is_told_so_who_has_not_asked_or_may_not(client: Client) -> None:
    for answer in (
        await client("OPTIONS", "/events"),
        await client("OPTIONS", "/events", b"", {"WebHook-Request-Origin": "two words"}),
        await client("OPTIONS", "/events", b"", {"WebHook-Request-Origin": "eventemitter.example.com"}, login=False),
    ):
        assert "webhook-allowed-origin" not in answer.headers
        assert answer.status in (200, 400, 401)
