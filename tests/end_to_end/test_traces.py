"""Traces of a real platform, as a collector gets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.platform import Platform, running, until
from tests.telemetry.collector import CLIENT, ERROR, INTERNAL, SERVER, Collector, Received, collecting

HANDLER = """
def handle(event, context):
    if event.path == "/fail":
        raise ValueError("broken")
    print("handled")
    return event.headers.get("traceparent", "")
"""


@pytest.fixture(scope="module", params=["1", "2"], ids=["one edge", "two edges"])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, Collector]]:
    """A platform that samples nothing by chance, and where its spans go."""
    home: Path = tmp_path_factory.mktemp("traced")
    flags = ["--trace-ratio", "0", "--workers", request.param]
    with collecting() as collector, running(home, *flags, "--otlp-endpoint", collector.url) as platform:
        platform.deploy("hello", HANDLER)
        yield platform, collector


def test_a_cold_call_is_one_connected_trace(traced: tuple[Platform, Collector]) -> None:
    platform, collector = traced
    platform.scale("hello", 0)
    until(lambda: not platform.pids("hello"))
    answer = platform.call("hello")
    trace = answer.headers["x-call-id"].replace("-", "")
    spans = {span.name: span for span in collector.until(trace, 9)}
    phases = {f"cold start: {phase}" for phase in ("placed", "prepared", "made", "ready")}
    assert set(spans) == {"POST /function/{name}", "queue", "cold start", "POST", "hello", *phases}
    gateway, queue, start, attempt, function = (
        spans[name] for name in ("POST /function/{name}", "queue", "cold start", "POST", "hello")
    )
    assert (gateway.parent, queue.parent, start.parent) == ("", gateway.span, queue.span)
    assert (attempt.parent, function.parent) == (gateway.span, attempt.span)
    assert {spans[phase].parent for phase in phases} == {start.span}
    assert start.attributes["pinnace.start.kind"] in ("zygote", "stem", "exec")
    assert [s.kind for s in (gateway, queue, start, attempt, function)] == [SERVER, INTERNAL, INTERNAL, CLIENT, SERVER]
    assert answer.text == f"00-{trace}-{function.span}-01", "what the function records stands below its span"
    assert gateway.start_ns == queue.start_ns <= start.start_ns <= start.end_ns
    assert start.end_ns <= queue.end_ns + 5_000_000, "clocks of two processes may differ by a little"
    assert queue.end_ns == attempt.start_ns <= function.start_ns <= function.end_ns <= gateway.end_ns
    assert (gateway.service, function.service) == ("pinnace", "hello.openfaas-fn")
    assert gateway.attributes == {
        "http.request.method": "POST",
        "http.route": "/function/{name}",
        "http.response.status_code": 200,
        "url.path": "/function/hello.openfaas-fn",
        "url.scheme": "http",
        "faas.invocation_id": answer.headers["x-call-id"],
        "faas.invoked_name": "hello",
        "pinnace.namespace": "openfaas-fn",
    }
    assert function.attributes["faas.coldstart"] is True
    assert function.attributes["faas.version"] == start.attributes["faas.version"] == "hello-00001"
    assert function.attributes["faas.instance"] == start.attributes["faas.instance"]


def test_an_error_is_traced_and_a_warm_call_is_not(traced: tuple[Platform, Collector]) -> None:
    platform, collector = traced
    warm, failed = platform.call("hello"), platform.call("hello", path="/fail")
    spans = collector.until(failed.headers["x-call-id"].replace("-", ""), 3)
    assert {span.status for span in spans} == {ERROR}
    assert collector.of_trace(warm.headers["x-call-id"].replace("-", "")) == []
    assert warm.text == ""


def test_a_client_s_trace_goes_on(traced: tuple[Platform, Collector]) -> None:
    platform, collector = traced
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    answer = platform.call("hello", traceparent=f"00-{trace}-{span}-01")
    gateway = next(s for s in collector.until(trace, 3) if s.name.startswith("POST /"))
    assert gateway.parent == span
    assert answer.text.startswith(f"00-{trace}-")
    assert span not in answer.text
    call = answer.headers["x-call-id"]

    def lines() -> list[str]:
        return platform.faas("logs", "hello", "--call", call, "--json").stdout.splitlines()

    (line,) = until(lines)
    assert (json.loads(line)["text"], json.loads(line)["traceId"]) == ("handled", trace)


def test_a_deploy_is_traced_with_the_steps_of_its_build(traced: tuple[Platform, Collector]) -> None:
    _, collector = traced

    def builds() -> list[Received]:
        return [span for span in list(collector.spans) if span.name == "build"]

    build = until(builds)[0]
    request = until(lambda: [s for s in list(collector.spans) if s.span == build.parent])[0]
    assert request.name == "POST /build"
    steps = [s for s in collector.of_trace(build.trace) if s.name == "build step"]
    assert steps and {s.parent for s in steps} == {build.span}


def test_what_became_of_spans_is_told(traced: tuple[Platform, Collector]) -> None:
    platform, _ = traced
    until(lambda: 'pinnace_spans_total{fate="exported"} 0' not in platform.request("GET", "/metrics").text)
    page = platform.request("GET", "/metrics").text
    assert 'pinnace_spans_total{fate="failed"} 0' in page
    assert 'pinnace_process_resident_memory_bytes{process="exporter"}' in page


def test_an_asynchronous_call_is_one_trace_from_its_client_to_the_function(traced: tuple[Platform, Collector]) -> None:
    platform, collector = traced
    trace, client = "c" * 31 + "7", "d" * 16
    told = {"traceparent": f"00-{trace}-{client}-01"}
    assert platform.request("POST", "/async-function/hello", b"", told).status == 202
    spans = {span.name: span for span in collector.until(trace, 6)}
    names = ("POST /async-function/{name}", "queue", "attempt", "POST /function/{name}", "POST", "hello")
    assert set(spans) == set(names)
    submission, queue, attempt, gateway, sent, function = (spans[name] for name in names)
    assert (submission.parent, queue.parent, attempt.parent) == (client, submission.span, submission.span)
    assert (gateway.parent, sent.parent, function.parent) == (attempt.span, gateway.span, sent.span)
    assert submission.start_ns <= queue.end_ns <= attempt.start_ns + 1_000 <= gateway.start_ns + 1_000_000


ONCE = """
seen = set()

def handle(event, context):
    first = context.call_id not in seen
    seen.add(context.call_id)
    return {"statusCode": 503 if first else 200, "body": event.headers.get("traceparent", "")}
"""


@pytest.mark.parametrize("flags", ["01", "00", None], ids=["sampled", "not sampled", "no client"])
def test_an_asynchronous_call_that_was_tried_again_is_one_trace(
    traced: tuple[Platform, Collector], request: pytest.FixtureRequest, flags: str | None
) -> None:
    platform, collector = traced
    platform.deploy("once", ONCE, "--annotation", "com.openfaas.retry.min_wait=50ms")
    trace, client = f"{abs(hash(request.node.name)):032x}", "e" * 16
    told = {"traceparent": f"00-{trace}-{client}-{flags}"} if flags else {}
    answer = platform.request("POST", "/async-function/once/order", b"17", told)
    call = answer.headers["x-call-id"]
    if flags is None:
        trace, client = call.replace("-", ""), ""
    ended = platform.request("GET", f"/async-function/{call}?wait=20s").json()
    assert (ended["state"], ended["attempts"], ended["trace"]) == ("succeeded", 2, trace)

    spans = collector.until(trace, 11)
    assert len(spans) == 11
    (submission,) = [span for span in spans if span.name == "POST /async-function/{name}"]
    assert (submission.parent, submission.service) == (client, "pinnace")
    assert submission.attributes["faas.invocation_id"] == call
    assert submission.attributes["http.route"] == "/async-function/{name}"
    first, second = sorted((span for span in spans if span.name == "attempt"), key=lambda span: span.start_ns)
    waits = sorted((span for span in spans if span.name == "queue"), key=lambda span: span.start_ns)
    assert {span.parent for span in (first, second, *waits)} == {submission.span}
    assert [span.attributes["pinnace.attempt"] for span in (first, second)] == [1, 2]
    assert [span.attributes["http.response.status_code"] for span in (first, second)] == [503, 200]
    assert (first.status, second.status) == (ERROR, 0)
    assert submission.start_ns == waits[0].start_ns <= waits[0].end_ns == first.start_ns
    assert first.end_ns <= waits[1].start_ns + 1_000 <= waits[1].end_ns <= second.start_ns + 1_000
    assert waits[1].end_ns - waits[1].start_ns >= 45_000_000, "the pause before the second attempt"
    for attempt, code in ((first, 503), (second, 200)):
        (gateway,) = [span for span in spans if span.parent == attempt.span]
        (sent,) = [span for span in spans if span.parent == gateway.span]
        (function,) = [span for span in spans if span.parent == sent.span]
        assert (gateway.name, sent.kind, function.name) == ("POST /function/{name}", CLIENT, "once")
        assert gateway.attributes["http.response.status_code"] == code
        assert gateway.attributes["faas.invocation_id"] == call
        assert (function.service, function.attributes["faas.trigger"]) == ("once.openfaas-fn", "http")
    assert ended["response"]["body"] == f"00-{trace}-{function.span}-01", "what the function records stands below its span"


def test_an_asynchronous_call_that_woke_the_function_is_one_trace(traced: tuple[Platform, Collector]) -> None:
    platform, collector = traced
    platform.scale("hello", 0)
    until(lambda: not platform.pids("hello"))
    call = platform.request("POST", "/async-function/hello").headers["x-call-id"]
    spans = collector.until(call.replace("-", ""), 12)
    (attempt,) = [span for span in spans if span.name == "attempt"]
    (gateway,) = [span for span in spans if span.name == "POST /function/{name}"]
    assert gateway.parent == attempt.span
    ids = {span.span for span in spans}
    assert [span.name for span in spans if span.parent not in ids] == ["POST /async-function/{name}"], "one root, no orphans"
    assert "cold start" in {span.name for span in spans}
    headers = platform.request("GET", f"/async-function/{call}").json()["response"]["headers"]
    assert "x-pinnace-traced" not in {name.lower() for name, _ in headers}
