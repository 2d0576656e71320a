"""What is told of asynchronous calls."""

from __future__ import annotations

from gateway.asynchronous.calls import Body, Call, Depth, State
from gateway.asynchronous.retry import Again, Dead, Succeeded
from gateway.metrics.queues import Queues
from orchestration.names import FunctionId
from tests.gateway.metrics.reading import samples


def call_of(queue: str) -> Call:
    return Call(
        id="c",
        queue=queue,
        function=FunctionId("openfaas-fn", "echo"),
        state=State.RUNNING,
        method="POST",
        path="/",
        headers=(),
        body=Body(),
        submitted=0.0,
        due=0.0,
    )


def test_depths_and_attempts_are_told_by_function_and_kind() -> None:
    depths = {
        "echo.openfaas-fn": Depth(waiting=5, running=2, dead=1, oldest_due=90.0, due=4),
        "echo.openfaas-fn#callback": Depth(waiting=1),
    }
    known = {"echo.openfaas-fn"}
    queues = Queues(lambda: depths, known.__contains__, lambda: 100.0)
    for verdict in (Succeeded(), Succeeded(), Again(1.0, "x"), Dead("x")):
        queues.attempted(call_of("echo.openfaas-fn"), verdict)
    told = samples(queues)
    function = "echo.openfaas-fn"
    assert told == {
        ("pinnace_async_waiting", function, "call"): 5,
        ("pinnace_async_waiting", function, "callback"): 1,
        ("pinnace_async_running", function, "call"): 2,
        ("pinnace_async_running", function, "callback"): 0,
        ("pinnace_async_dead", function, "call"): 1,
        ("pinnace_async_dead", function, "callback"): 0,
        ("pinnace_async_late_seconds", function, "call"): 10,
        ("pinnace_async_late_seconds", function, "callback"): 0,
        ("pinnace_async_attempts_total", function, "call", "succeeded"): 2,
        ("pinnace_async_attempts_total", function, "call", "again"): 1,
        ("pinnace_async_attempts_total", function, "call", "dead"): 1,
    }
    known.clear()
    assert not any(name == "pinnace_async_attempts_total" for name, *_ in samples(queues))
