"""Which calls are traced, what their functions are told, and what is handed in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.edge.tracing import Tracing
from telemetry.spans import CallTrace, Record
from tests.gateway.edge.rig import Rig

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sink:
    """Keeps what is handed in."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        self.records.append(record)


def rig(ratio: float, *, plain: bool, **settings: Any) -> tuple[Rig, Sink]:
    rig, sink = Rig(plain=plain, spans="/nowhere", **settings), Sink()
    rig.context.tracing = Tracing(sink, ratio)  # type: ignore[arg-type]
    rig.context.call_ids._prefix = b"430cd08c-7c33-4cfc-b9f2-"
    return rig, sink


def get(*fields: str) -> bytes:
    lines = ["GET /function/echo/x?q=1 HTTP/1.1", "Host: h", *fields, "", ""]
    return "\r\n".join(lines).encode()


def told(rig: Rig) -> list[str]:
    """The values of all `traceparent` fields that the replica got."""
    sent = b"".join(rig.outcome().sent).decode()
    return re.findall(r"^traceparent: (.*)\r$", sent, re.MULTILINE | re.IGNORECASE)


def answers(*heads: bytes) -> Iterator[list[bytes]]:
    return iter([[head] for head in heads])


@pytest.fixture(params=[True, False], ids=["plain", "parsed"])
def plain(request: pytest.FixtureRequest) -> bool:
    """Heads read by one expression, or by the parser."""
    return bool(request.param)


def test_a_client_that_samples_is_followed_and_the_function_is_told_of_its_own_span(plain: bool) -> None:
    bench, sink = rig(0.0, plain=plain)
    bench.read(get(f"traceparent: 00-{TRACE}-{SPAN}-01", "tracestate: a=b"), answers(OK))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    assert (record.trace, record.parent, record.status) == (TRACE, SPAN, 200)
    assert told(bench) == [f"00-{TRACE}-{record.function_span}-01"]
    assert b"tracestate: a=b" in bench.outcome().sent[0]
    assert (record.method, record.path) == ("GET", "/function/echo.openfaas-fn/x")
    assert (record.function, record.revision, record.replica) == ("echo", "echo-00001", "r0")


def test_a_client_that_does_not_sample_is_followed_too(plain: bool) -> None:
    bench, sink = rig(1.0, plain=plain)
    bench.read(get(f"Traceparent: 00-{TRACE}-{SPAN}-00"), answers(OK))
    assert sink.records == []
    assert told(bench) == [f"00-{TRACE}-{SPAN}-00"]


def test_a_call_without_a_trace_gets_its_id_for_one(plain: bool) -> None:
    bench, sink = rig(1.0, plain=plain)
    bench.read(get(), answers(OK))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    assert record.trace == record.call_id.replace("-", "")
    assert record.parent == ""
    assert told(bench) == [f"00-{record.trace}-{record.function_span}-01"]


def test_a_call_that_is_not_sampled_gets_nothing(plain: bool) -> None:
    bench, sink = rig(0.0, plain=plain)
    bench.read(get(), answers(OK))
    assert (sink.records, told(bench)) == ([], [])


@pytest.mark.parametrize(
    "fields",
    [
        ["traceparent: nonsense", "tracestate: a=b"],
        ["TRACEPARENT: nonsense", "TRACESTATE: a=b"],
        [f"traceparent: 00-{TRACE}-{SPAN}-01", f"traceparent: 00-{TRACE}-{SPAN}-01", "tracestate: a=b"],
    ],
)
def test_what_is_not_valid_is_replaced(fields: list[str], plain: bool) -> None:
    bench, sink = rig(1.0, plain=plain)
    bench.read(get(*fields), answers(OK))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    assert record.trace != TRACE
    assert told(bench) == [f"00-{record.trace}-{record.function_span}-01"]
    assert b"tracestate" not in bench.outcome().sent[0].lower()


def test_a_call_that_failed_is_traced_though_nobody_sampled_it(plain: bool) -> None:
    bench, sink = rig(0.0, plain=plain)
    failed = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\nX-Duration-Seconds: 0.25\r\n\r\nno"
    bench.read(get() + get(), answers(failed, OK))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    assert (record.status, record.handler_s, record.answered_s) == (500, 0.25, 0.0)


def test_a_replica_that_does_not_answer_is_traced(plain: bool) -> None:
    bench, sink = rig(0.0, plain=plain)
    bench.read(get(f"traceparent: 00-{TRACE}-{SPAN}-00").replace(b"GET", b"POST"), answers(b""))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    assert (record.trace, record.parent, record.status, record.answered_s) == (TRACE, SPAN, 502, -1.0)


def test_the_trace_illustrates_the_histogram(plain: bool) -> None:
    bench, sink = rig(1.0, plain=plain)
    bench.read(get(), answers(OK))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    exemplars = bench.edge.tallies()[bench.function.id].by_code[200].exemplars
    assert exemplars is not None
    assert exemplars[0][0] == record.trace


def test_the_control_api_is_traced_by_itself(plain: bool) -> None:
    bench, sink = rig(1.0, plain=plain)
    bench.read(b"GET /system/functions HTTP/1.1\r\nHost: h\r\n\r\n", answers(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))
    assert sink.records == []


def test_a_head_of_its_own_id_has_a_trace_all_the_same() -> None:
    bench, sink = rig(1.0, plain=True)
    bench.read(get("X-Call-Id: mine"), answers(OK))
    (record,) = sink.records
    assert isinstance(record, CallTrace)
    assert record.call_id == "mine"
    assert re.fullmatch("[0-9a-f]{32}", record.trace)


@pytest.mark.parametrize("ratio", [0.01, 0.2, 1.0])
def test_so_many_are_sampled_as_asked_for(ratio: float) -> None:
    tracing = Tracing(Sink(), ratio)  # type: ignore[arg-type]
    calls = 20_000
    sampled = 0
    for _ in range(calls):
        tracing.left -= 1
        sampled += tracing.begin(b"", b"") is not None
    assert abs(sampled - ratio * calls) <= 6 * (calls * ratio * (1 - ratio)) ** 0.5


@pytest.mark.parametrize("asks", ["", "X-Pinnace-Timing: 1"])
def test_a_worker_hears_that_its_call_is_traced_and_nobody_else_does(plain: bool, asks: str) -> None:
    asked = [asks] if asks else []
    for inner in (True, False):
        for said, traced in ((f"traceparent: 00-{TRACE}-{SPAN}-01", True), (f"traceparent: 00-{TRACE}-{SPAN}-00", False)):
            bench, sink = rig(0.0, plain=plain, inner=inner)
            bench.read(get(said, *asked), answers(OK[:-4] + b"X-Pinnace-Traced: forged\r\n" + OK[-4:]))
            assert bool(sink.records) == traced
            found = re.findall(rb"X-Pinnace-Traced: (.*)\r", bench.outcome().answered)
            assert found == ([b"true"] if inner and traced else [])
            assert (b"Server-Timing" in bench.outcome().answered) == bool(asks)
