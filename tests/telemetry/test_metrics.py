"""Names, types and labels: OpenFaaS's are theirs, ours keep the conventions."""

from __future__ import annotations

import re

from telemetry.metrics import ALL

OPENFAAS = {
    "gateway_function_invocation_total": ("counter", {"function_name", "code"}),
    "gateway_function_invocation_started": ("counter", {"function_name"}),
    "gateway_functions_seconds": ("histogram", {"function_name", "code"}),
    "gateway_service_count": ("gauge", {"function_name"}),
    "gateway_function_invocation_inflight": ("gauge", {"function_name"}),
    "gateway_service_ready_count": ("gauge", {"function_name"}),
    "gateway_service_min": ("gauge", {"function_name"}),
    "gateway_service_target_load": ("gauge", {"function_name", "scaling_type"}),
    "http_requests_total": ("counter", {"method", "path", "status"}),
    "http_request_duration_seconds": ("histogram", {"method", "path", "status"}),
    "provider_http_requests_total": ("counter", {"code", "method", "path"}),
    "provider_http_request_duration_seconds": ("histogram", {"code", "method", "path"}),
    "pod_cpu_usage_seconds_total": ("counter", {"function_name", "namespace"}),
    "pod_memory_working_set_bytes": ("gauge", {"function_name", "namespace"}),
}
"""As OpenFaaS's gateway, provider and its relabelling of the kubelet's metrics have them."""


def test_openfaas_names_types_and_labels_are_as_there() -> None:
    served = {m.name: (m.kind, set(m.labels)) for m in ALL if m.origin != "Pinnace"}
    assert served == OPENFAAS


def test_ours_are_ours_by_prefix() -> None:
    for metric in ALL:
        assert metric.name.startswith("pinnace_") == (metric.origin == "Pinnace"), metric.name
        assert re.fullmatch(r"[A-Z1].*\.", metric.help), metric.help


def test_no_two_families_have_one_name() -> None:
    families = [metric.name.removesuffix("_total") for metric in ALL]
    assert len(set(families)) == len(families)
