"""Three systems' words for the same settings, with each one's defaults, bounds and contradictions."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.scaling import HIGHEST_REPLICAS, Aggregation, Metric, ScaleSettings
from orchestration.scaling_labels import KNATIVE, OPENFAAS, OURS, SPELLINGS, is_scaling_key, scale_settings, scale_warnings
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec, Resources


def spec(labels: dict[str, str], *, concurrency: int | None = None, cpu: str | None = None) -> FunctionSpec:
    """`f.` and `k.` and `p.` stand for the three prefixes; Knative's become annotations."""
    prefixes = {"f": OPENFAAS, "k": KNATIVE, "p": OURS}
    full = {prefixes[key.partition(".")[0]] + key.partition(".")[2]: text for key, text in labels.items()}
    return FunctionSpec(
        service="f",
        image="f",
        labels={k: v for k, v in full.items() if not k.startswith(KNATIVE)},
        annotations={k: v for k, v in full.items() if k.startswith(KNATIVE)},
        env_vars=None if concurrency is None else {"max_inflight": str(concurrency)},
        requests=None if cpu is None else Resources(cpu=cpu),
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, {}),
        ({"f.min": "3"}, {"min_replicas": 3}),
        ({"f.min": "0030"}, {"min_replicas": 30, "max_replicas": 30}),
        ({"f.max": "2"}, {"max_replicas": 2}),
        ({"f.zero": "true"}, {"zero": True, "learns": True}),
        ({"f.zero": "true", "p.learn": "false"}, {"zero": True}),
        ({"f.zero": "True", "f.zero-duration": "90"}, {"zero": True, "zero_after_s": 90}),
        ({"f.zero": "1", "f.zero-duration": "1m30s"}, {"zero": True, "zero_after_s": 90}),
        ({"f.min": "0"}, {"min_replicas": 0, "zero": True, "learns": True}),
        ({"f.zero-duration": "5m"}, {"zero_after_s": 300}),
        ({"f.down.window": "5m"}, {"down_delay_s": 300}),
        ({"f.factor": "20"}, {}),
        ({"k.min-scale": "0"}, {"min_replicas": 0, "zero": True, "zero_after_s": 60}),
        ({"k.minScale": "2", "k.maxScale": "9"}, {"min_replicas": 2, "max_replicas": 9}),
        ({"k.max-scale": "0"}, {"max_replicas": HIGHEST_REPLICAS}),
        (
            {"k.min-scale": "0", "k.window": "30s", "k.scale-to-zero-pod-retention-period": "1m30s"},
            {"min_replicas": 0, "zero": True, "zero_after_s": 120, "window_s": 30},
        ),
        ({"k.min-scale": "0", "f.zero-duration": "10s"}, {"min_replicas": 0, "zero": True, "zero_after_s": 10}),
        ({"k.initial-scale": "4", "k.activation-scale": "2"}, {"initial_replicas": 4, "activation_replicas": 2}),
        (
            {"k.panic-window-percentage": "20", "k.panic-threshold-percentage": "150", "k.scale-down-delay": "15m"},
            {"panic_percent": 20, "panic_threshold": 1.5, "down_delay_s": 900},
        ),
        ({"k.metric-aggregation-algorithm": "weighted-exponential"}, {"aggregation": Aggregation.WEIGHTED_EXPONENTIAL}),
        ({"k.target-burst-capacity": "-1"}, {"burst_capacity": -1}),
        ({"k.class": "kpa.autoscaling.knative.dev"}, {}),
    ],
)
def test_bounds_zero_and_windows(labels: dict[str, str], expected: dict[str, Any]) -> None:
    assert scale_settings(spec(labels)) == ScaleSettings(**expected)


@pytest.mark.parametrize(
    ("labels", "concurrency", "metric", "target", "aim"),
    [
        ({}, None, Metric.CONCURRENCY, 100, 70),
        ({}, 10, Metric.CONCURRENCY, 10, 7),
        ({}, 0, Metric.CONCURRENCY, 100, 70),
        ({"f.target": "40"}, None, Metric.RPS, 40, 36),
        ({"f.type": "rps"}, None, Metric.RPS, 50, 45),
        ({"f.type": "capacity", "f.target": "20", "f.target-proportion": "0.5"}, None, Metric.CONCURRENCY, 20, 10),
        ({"f.type": "capacity", "f.target": "20"}, 5, Metric.CONCURRENCY, 5, 4.5),
        ({"f.type": "queue", "f.target": "8", "f.target-proportion": "1"}, None, Metric.QUEUE, 8, 8),
        ({"f.type": "cpu", "f.target": "500"}, None, Metric.CPU, 500, 450),
        ({"f.type": "memory", "f.target": "100"}, None, Metric.MEMORY, 100, 90),
        ({"f.type": "orders", "f.target": "30", "p.query": "sum(orders)"}, None, Metric.CUSTOM, 30, 27),
        ({"k.metric": "rps"}, None, Metric.RPS, 200, 140),
        ({"k.metric": "rps", "k.target": "1"}, None, Metric.RPS, 1, 0.7),
        ({"k.metric": "rps", "k.target-utilization-percentage": "75"}, None, Metric.RPS, 200, 150),
        ({"k.metric": "rps", "k.target": "300"}, None, Metric.RPS, 300, 210),
        ({"k.target": "10", "k.target-utilization-percentage": "75"}, None, Metric.CONCURRENCY, 10, 7.5),
        ({"k.target-utilization-percentage": "75"}, 12, Metric.CONCURRENCY, 12, 9),
        ({"k.target-utilization-percentage": "80"}, 1, Metric.CONCURRENCY, 1, 0.8),
        ({"k.target": "1"}, 10, Metric.CONCURRENCY, 1, 0.7),
        ({"k.target": "10"}, 1, Metric.CONCURRENCY, 1, 0.7),
        ({"k.target": "500"}, 0, Metric.CONCURRENCY, 500, 350),
        ({"k.target": "0.01", "k.target-utilization-percentage": "1"}, None, Metric.CONCURRENCY, 0.01, 0.01),
    ],
)
def test_what_one_replica_takes(
    labels: dict[str, str], concurrency: int | None, metric: Metric, target: float, aim: float
) -> None:
    settings = scale_settings(spec(labels, concurrency=concurrency))
    assert settings.metric is metric
    assert (settings.target, settings.aim) == pytest.approx((target, aim))


def test_knatives_cpu_target_is_a_part_of_the_request() -> None:
    settings = scale_settings(spec({"k.class": "hpa.autoscaling.knative.dev", "k.metric": "cpu", "k.target": "80"}, cpu="250m"))
    assert settings.metric is Metric.CPU
    assert settings.aim == pytest.approx(200)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"f.min": "-1"}, "whole number"),
        ({"f.min": "two"}, "whole number"),
        ({"f.min": "٣"}, "whole number"),
        ({"f.min": "99999999"}, "whole number"),
        ({"f.min": "9" * 5000}, "whole number"),
        ({"f.zero-duration": "9" * 5000}, "longer than any duration"),
        ({"f.max": "0"}, "at least 1"),
        ({"f.min": "5", "f.max": "4"}, "above com.openfaas.scale.max='4'"),
        ({"f.zero": "maybe"}, "true or false"),
        ({"f.zero-duration": "soon"}, "duration"),
        ({"f.target": "0"}, "a number from 0.01"),
        ({"f.target": "nan"}, "a number from 0.01"),
        ({"f.target": "1e3"}, "a number from 0.01"),
        ({"f.target-proportion": "1.2"}, "a number from 0.01 to 1"),
        ({"f.type": "cpu"}, "needs com.openfaas.scale.target: thousandths of a core"),
        (
            {"f.type": "orders"},
            "none of concurrency, rps, queue, cpu, memory; a metric of your own needs com.pinnace.scale.query",
        ),
        ({"k.metric": "memory"}, "needs autoscaling.knative.dev/target: MiB"),
        ({"k.metric": "cpu", "k.target": "80"}, "percentage of requests.cpu, which is not set"),
        ({"k.class": "hpa.autoscaling.knative.dev", "k.metric": "rps"}, "contradicts"),
        ({"k.class": "mine"}, "kpa.autoscaling.knative.dev"),
        ({"k.window": "5s"}, "from 6s to 1h"),
        ({"k.window": "2h"}, "from 6s to 1h"),
        ({"k.panic-threshold-percentage": "100"}, "from 110 to 1000"),
        ({"k.target-burst-capacity": "-2"}, "number"),
        ({"k.metric-aggregation-algorithm": "median"}, "linear or weighted-exponential"),
        ({"k.initial-scale": "0"}, "at least 1"),
        ({"k.initial-scale": "30"}, "above the default max 20"),
        ({"k.activation-scale": "6", "f.max": "5"}, "above com.openfaas.scale.max='5'"),
        ({"p.schedule": "every day"}, "schedule"),
        ({"p.schedule": "0 8 * * * | 0 18 * * * | 25 | UTC"}, "25 replicas are above the default max 20"),
        ({"p.query": " "}, "PromQL"),
        ({"f.min": "2", "k.min-scale": "3"}, "contradicts"),
        ({"f.zero": "false", "f.min": "0"}, "contradicts"),
        ({"f.type": "rps", "k.metric": "concurrency"}, "contradicts"),
        ({"f.target": "10", "k.target": "20"}, "contradicts"),
        ({"f.target-proportion": "0.5", "k.target-utilization-percentage": "60"}, "contradicts"),
    ],
)
def test_what_cannot_be_names_the_key(labels: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        scale_settings(spec(labels))
    assert words in str(error.value)
    assert any(prefix in str(error.value) for prefix in (OPENFAAS, KNATIVE, OURS))
    assert len(str(error.value)) < 400


def test_two_spellings_that_agree_are_welcome() -> None:
    settings = scale_settings(
        spec({"f.min": "2", "k.min-scale": "2", "k.minScale": "2", "f.type": "capacity", "k.metric": "concurrency"})
    )
    assert settings.min_replicas == 2


def test_what_does_nothing_is_said() -> None:
    warnings = scale_warnings(spec({"f.factor": "20", "f.mim": "2", "k.window": "30s", "f.min": "1"}))
    assert warnings == (
        "com.openfaas.scale.factor is ignored: counts follow the load, not steps",
        "com.openfaas.scale.mim is not a setting that is known here: it does nothing",
    )


@pytest.mark.parametrize(
    ("labels", "warnings"),
    [
        ({"f.zero-duration": "5m"}, ["com.openfaas.scale.zero-duration does nothing without com.openfaas.scale.zero=true"]),
        ({"k.scale-to-zero-pod-retention-period": "1m", "p.learn": "true"}, ["retention-period does nothing", "learn does"]),
        ({"f.zero": "true", "f.zero-duration": "5m", "p.learn": "true"}, ["learn does nothing: how long"]),
        (
            {"f.zero": "true", "f.zero-duration": "5m", "k.scale-to-zero-pod-retention-period": "1m"},
            ["retention-period does nothing beside com.openfaas.scale.zero-duration"],
        ),
        ({"p.query": "sum(orders)"}, ["com.pinnace.scale.query does nothing: the metric is concurrency"]),
        ({"f.zero": "true", "f.zero-duration": "5m"}, []),
        ({"k.min-scale": "0", "k.scale-to-zero-pod-retention-period": "1m"}, []),
        ({"f.min": "0", "p.learn": "false"}, []),
        ({"f.min": "x", "f.mim": "2"}, ["com.openfaas.scale.mim is not"]),
    ],
)
def test_what_does_nothing_beside_the_others_is_said(labels: dict[str, str], warnings: list[str]) -> None:
    found = scale_warnings(spec(labels))
    assert len(found) == len(warnings)
    assert all(words in warning for words, warning in zip(warnings, found, strict=True))


def test_scaling_keys_make_no_revision() -> None:
    assert all(is_scaling_key(spelling.key) for spelling in SPELLINGS)
    assert not is_scaling_key("com.openfaas.scalefactor")
