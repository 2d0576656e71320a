"""One trace from the client through the queue to each attempt."""

from __future__ import annotations

import msgspec

from gateway.asynchronous.calls import Body, Call, Headers, Outcome, State
from gateway.asynchronous.retry import Again, Answer, Dead, Succeeded
from gateway.asynchronous.tracing import CallTracing
from orchestration.names import FunctionId
from telemetry.spans import Span

ID = "01a214ae-0b10-78cf-8f1c-80ce1822a0e8"
CLIENT = ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")


def call_of(*headers: tuple[str, str], call_id: str = ID, attempts: int = 1) -> Call:
    return Call(
        id=call_id,
        queue="echo.openfaas-fn",
        function=FunctionId("openfaas-fn", "echo"),
        state=State.RUNNING,
        method="POST",
        path="/",
        headers=headers,
        body=Body(),
        submitted=100.0,
        due=100.0,
        attempts=attempts,
    )


class Traced:
    """Notes spans."""

    def __init__(self, ratio: float = 0.0) -> None:
        self.spans: list[Span] = []
        self.tracing = CallTracing(self.spans.append, ratio)

    def context(self, call: Call) -> Headers:
        return self.tracing.begin(call).told(call.headers)


def test_a_sampled_call_is_one_trace_below_its_client() -> None:
    traced = Traced()
    call = call_of(("X-A", "1"), CLIENT)
    trace = traced.tracing.begin(call)
    traced.tracing.end(trace, call, Answer(200), Succeeded(), 103.0, 104.0)
    submission, queue, attempt = traced.spans
    assert {span.trace for span in traced.spans} == {"a" * 32}
    assert (submission.parent, queue.parent, attempt.parent) == ("b" * 16, submission.span, submission.span)
    assert [span.kind for span in traced.spans] == ["producer", "internal", "consumer"]
    assert (queue.start_ns, queue.end_ns, attempt.end_ns) == (100_000_000_000, 103_000_000_000, 104_000_000_000)
    assert trace.told(call.headers) == (("X-A", "1"), ("traceparent", f"00-{'a' * 32}-{attempt.span}-01"))
    assert attempt.attributes["http.response.status_code"] == 200 and attempt.error == ""


def test_a_second_attempt_hangs_below_the_same_submission() -> None:
    traced = Traced()
    first = call_of(CLIENT)
    traced.tracing.end(traced.tracing.begin(first), first, Answer(503), Again(120.0, "busy"), 101.0, 102.0)
    again = msgspec.structs.replace(first, attempts=2, outcome=Outcome(status=503, started=101.0, ended=102.0))
    traced.tracing.end(traced.tracing.begin(again), again, Answer(200), Succeeded(), 120.0, 121.0)
    assert [span.name for span in traced.spans] == ["POST /async-function/{name}", "queue", "attempt", "queue", "attempt"]
    assert {span.parent for span in traced.spans[1:]} == {traced.spans[0].span}
    assert (traced.spans[3].start_ns, traced.spans[3].end_ns) == (102_000_000_000, 120_000_000_000)
    assert traced.spans[2].error == "busy"


def test_without_a_client_s_trace_the_call_s_id_is_the_trace_s_and_decides() -> None:
    assert Traced(0.0).tracing.begin(call_of()).id == ID.replace("-", "")
    assert [Traced(ratio).tracing.begin(call_of()).sampled for ratio in (0.0, 0.05, 0.5, 1.0)] == [False, False, True, True]
    begun = Traced().tracing.begin(call_of(call_id="mine"))
    assert len(begun.id) == 32 and begun == msgspec.structs.replace(
        begun, id=Traced().tracing.begin(call_of(call_id="mine")).id
    )


def test_what_is_not_sampled_is_told_so_and_traced_only_when_it_fails() -> None:
    traced = Traced()
    call = call_of()
    value = dict(traced.context(call))["traceparent"]
    assert value.startswith(f"00-{ID.replace('-', '')}-") and value.endswith("-00")
    traced.tracing.end(traced.tracing.begin(call), call, Answer(200), Succeeded(), 101.0, 102.0)
    assert traced.spans == []
    traced.tracing.end(traced.tracing.begin(call), call, Answer(500), Dead("no"), 101.0, 102.0)
    assert traced.spans[-1].attributes["pinnace.dead"] is True and traced.spans[-1].error == "no"


def test_two_contexts_count_as_none() -> None:
    assert Traced().tracing.begin(call_of(CLIENT, CLIENT)).client == ""


def test_what_only_the_edge_traced_hangs_together_too() -> None:
    traced = Traced()
    call = call_of()
    trace = traced.tracing.begin(call)
    warm, cold = Answer(200, (("X-A", "1"),)), Answer(200, (("X-A", "1"), ("X-Pinnace-Traced", "true")))
    traced.tracing.end(trace, call, warm, Succeeded(), 103.0, 104.0)
    assert traced.spans == []
    traced.tracing.end(trace, call, cold, Succeeded(), 103.0, 104.0)
    assert [span.name for span in traced.spans] == ["POST /async-function/{name}", "queue", "attempt"]
