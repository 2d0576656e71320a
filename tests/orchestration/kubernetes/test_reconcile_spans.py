"""The spans of the controller's work, without a cluster."""

from __future__ import annotations

import itertools

import pytest

from orchestration.kubernetes.api import DEPLOYMENTS, SERVICES, Clash
from orchestration.kubernetes.reconcile_spans import ReconcileSpans
from orchestration.names import FunctionId
from telemetry.spans import Span

HELLO = FunctionId("team", "hello")


def test_a_look_that_wrote_nothing_leaves_no_trace() -> None:
    spans: list[Span] = []
    with ReconcileSpans(spans.append).reconcile(HELLO):
        pass
    assert spans == []


def test_what_is_refused_is_an_error_of_the_write_and_of_the_whole() -> None:
    spans: list[Span] = []
    times = itertools.count(10)
    noting = ReconcileSpans(spans.append, lambda: next(times))
    with pytest.raises(Clash), noting.reconcile(HELLO):
        with noting.write("apply", SERVICES, "team", "hello-00001"):
            pass
        with noting.write("apply", DEPLOYMENTS, "team", "hello-00001"):
            raise Clash(409, "Conflict", "another owns it")
    whole, service, deployment = spans
    assert [(s.name, s.error, s.start_ns, s.end_ns) for s in spans] == [
        ("reconcile", "Conflict", 10, 15),
        ("apply Service", "", 11, 12),
        ("apply Deployment", "Conflict", 13, 14),
    ]
    assert {service.parent, deployment.parent} == {whole.span}
    assert deployment.attributes["error.type"] == "Conflict"


def test_work_for_two_functions_at_a_time_is_kept_apart() -> None:
    spans: list[Span] = []
    noting = ReconcileSpans(spans.append)
    for name in ("one", "two"):
        with noting.reconcile(FunctionId("team", name)), noting.write("scale", DEPLOYMENTS, "team", f"{name}-00001"):
            pass
    assert len({span.trace for span in spans}) == 2
    assert {span.attributes["k8s.deployment.name"] for span in spans if span.parent} == {"one-00001", "two-00001"}


def test_where_nothing_is_traced_nothing_is_noted() -> None:
    noting = ReconcileSpans()
    with noting.reconcile(HELLO), noting.write("apply", SERVICES, "team", "hello-00001"):
        pass
