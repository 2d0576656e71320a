"""What a call becomes."""

from __future__ import annotations

import msgspec

from telemetry.call_spans import spans_of
from telemetry.spans import Attempt, CallTrace, Span

S = 1_000_000_000
WARM = CallTrace(
    trace="a" * 32,
    parent="",
    function_span="f" * 16,
    call_id="call-1",
    start_ns=100 * S,
    ended_s=0.5,
    method="GET",
    path="/function/hello.openfaas-fn/x",
    function="hello",
    namespace="openfaas-fn",
    revision="hello-00001",
    replica="hello-00001-abc",
    status=200,
    waited_s=0.0,
    taken_s=0.0,
    answered_s=0.5,
    handler_s=-1.0,
    cold=False,
    replica_started=50.0,
    replica_ready=51.0,
)


def shape(spans: list[Span]) -> list[tuple[str, str, float, float]]:
    """Name, parent's name, start and end in seconds since the call's start."""
    names = {span.span: span.name for span in spans}
    return [
        (s.name, names.get(s.parent, s.parent), round(s.start_ns / S - 100, 6), round(s.end_ns / S - 100, 6)) for s in spans
    ]


def test_a_warm_call_is_gateway_attempt_and_function() -> None:
    spans = spans_of(msgspec.structs.replace(WARM, parent="c" * 16))
    assert shape(spans) == [
        ("GET /function/{name}", "c" * 16, 0.0, 0.5),
        ("GET", "GET /function/{name}", 0.0, 0.5),
        ("hello", "GET", 0.0, 0.5),
    ]
    assert [s.kind for s in spans] == ["server", "client", "server"]
    assert (spans[2].span, spans[2].service) == ("f" * 16, "hello.openfaas-fn")
    assert not any(s.error for s in spans)
    assert spans[0].attributes["http.route"] == "/function/{name}"
    assert spans[2].attributes["faas.coldstart"] is False


def test_the_function_is_as_long_as_its_runtime_says() -> None:
    spans = spans_of(msgspec.structs.replace(WARM, answered_s=0.4, handler_s=0.1))
    assert shape(spans)[2] == ("hello", "GET", 0.3, 0.4)
    odd = spans_of(msgspec.structs.replace(WARM, answered_s=0.4, handler_s=9.0))
    assert shape(odd)[2] == ("hello", "GET", 0.0, 0.4)


def test_a_cold_call_waits_for_the_start_of_a_replica() -> None:
    spans = spans_of(
        msgspec.structs.replace(
            WARM,
            cold=True,
            waited_s=0.3,
            taken_s=0.3,
            replica_started=100.01,
            replica_ready=100.29,
            start_kind="exec",
            phases={"placed": 0.0, "made": 0.08, "ready": 0.2},
        )
    )
    assert shape(spans) == [
        ("GET /function/{name}", "", 0.0, 0.5),
        ("queue", "GET /function/{name}", 0.0, 0.3),
        ("cold start", "queue", 0.01, 0.29),
        ("cold start: placed", "cold start", 0.01, 0.01),
        ("cold start: made", "cold start", 0.01, 0.09),
        ("cold start: ready", "cold start", 0.09, 0.29),
        ("GET", "GET /function/{name}", 0.3, 0.5),
        ("hello", "GET", 0.3, 0.5),
    ]


def test_a_call_that_is_tried_again_has_a_span_for_each_attempt() -> None:
    spans = spans_of(
        msgspec.structs.replace(WARM, attempts=[Attempt(0.05, 0.1, "it closed the connection")], waited_s=0.2, taken_s=0.2)
    )
    assert shape(spans) == [
        ("GET /function/{name}", "", 0.0, 0.5),
        ("queue", "GET /function/{name}", 0.0, 0.05),
        ("queue", "GET /function/{name}", 0.1, 0.2),
        ("GET", "GET /function/{name}", 0.05, 0.1),
        ("GET", "GET /function/{name}", 0.2, 0.5),
        ("hello", "GET", 0.2, 0.5),
    ]
    assert (spans[3].error, spans[4].error) == ("it closed the connection", "")
    assert spans[4].attributes["http.request.resend_count"] == 1


def test_a_call_that_no_replica_took_ends_in_the_queue() -> None:
    spans = spans_of(msgspec.structs.replace(WARM, status=504, waited_s=0.0, taken_s=-1.0, answered_s=-1.0, replica=""))
    assert shape(spans) == [("GET /function/{name}", "", 0.0, 0.5)]
    assert (spans[0].error, spans[0].attributes["error.type"]) == ("504", "504")


def test_a_replica_that_did_not_answer_has_no_span_of_its_own() -> None:
    spans = spans_of(msgspec.structs.replace(WARM, status=502, answered_s=-1.0))
    assert [s.name for s in spans] == ["GET /function/{name}", "GET"]
    assert [s.error for s in spans] == ["502", "502"]
