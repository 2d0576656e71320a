"""OpenTelemetry's own variables."""

from __future__ import annotations

import pytest

from telemetry.otel_environment import is_wanted, ratio, unspoken_protocol

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, ""),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.5"}, ""),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, "0.25"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, "0.25"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, "1"),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, "1"),
        ({"OTEL_TRACES_SAMPLER": "Parentbased_Always_Off"}, "0"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, ""),
    ],
)
def test_the_sampler_s_ratio(environment: dict[str, str], asked: str) -> None:
    assert ratio(environment) == asked


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_a_collector_switches_traces_on(environment: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environment) is wanted


def test_another_protocol_is_named() -> None:
    assert unspoken_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == "grpc"
    assert unspoken_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) == ""
