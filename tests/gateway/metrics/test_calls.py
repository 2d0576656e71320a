"""What edges counted, as metrics."""

from __future__ import annotations

from gateway.edge.figures import EdgeFigures, FunctionLoad
from gateway.edge.tally import Tally
from gateway.metrics.calls import Calls
from orchestration.names import FunctionId
from tests.gateway.metrics.reading import samples

HELLO = FunctionId("openfaas-fn", "hello")
NAME = "hello.openfaas-fn"


class Edges:
    """One edge with one function."""

    def __init__(self) -> None:
        self.tally = Tally()

    def tallies(self) -> dict[FunctionId, Tally]:
        return {HELLO: self.tally}

    def loads(self) -> dict[FunctionId, FunctionLoad]:
        return {HELLO: FunctionLoad(3, 2, 1.5)}

    def figures(self) -> dict[str, EdgeFigures]:
        return {"edge-0": EdgeFigures(4, 9, 1, {404: 2}), "edge-1": EdgeFigures(1, 2, 0)}


def test_calls_are_told_under_openfaas_names_and_ours() -> None:
    edges = Edges()
    edges.tally.started = 8
    edges.tally.count(200, 0.003)
    edges.tally.count(200, 0.3)
    edges.tally.count(502, 0.001)
    edges.tally.waited(0.2, cold=True)
    edges.tally.began(0.3)
    told = samples(Calls(edges))
    assert told["gateway_function_invocation_total", NAME, "200"] == 2
    assert told["gateway_function_invocation_total", NAME, "502"] == 1
    assert told["gateway_function_invocation_started", NAME] == 8
    assert told["gateway_functions_seconds_bucket", NAME, "200", "0.005"] == 1
    assert told["gateway_functions_seconds_bucket", NAME, "200", "0.5"] == 2
    assert told["gateway_functions_seconds_count", NAME, "502"] == 1
    assert told["gateway_function_invocation_inflight", NAME] == 5
    assert told["pinnace_calls_in_flight", NAME] == 3
    assert told["pinnace_queue_length", NAME] == 2
    assert told["pinnace_queue_oldest_wait_seconds", NAME] == 1.5
    assert told["pinnace_queue_wait_seconds_count", NAME] == 1
    assert told["pinnace_cold_starts_total", NAME] == 1
    assert told["pinnace_cold_start_first_byte_seconds_bucket", NAME, "0.25"] == 0
    assert told["pinnace_cold_start_first_byte_seconds_bucket", NAME, "0.5"] == 1


def test_each_edge_tells_of_its_connections() -> None:
    told = samples(Calls(Edges()))
    assert told["pinnace_edge_connections", "edge-0"] == 4
    assert told["pinnace_edge_connections_accepted_total", "edge-1"] == 2
    assert told["pinnace_edge_connections_refused_total", "edge-0"] == 1
    assert told["pinnace_edge_requests_refused_total", "edge-0", "404"] == 2


def test_a_function_that_was_never_called_has_its_zeros() -> None:
    told = samples(Calls(Edges()))
    assert told["gateway_function_invocation_started", NAME] == 0
    assert told["pinnace_cold_starts_total", NAME] == 0
