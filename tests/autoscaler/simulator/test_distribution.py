from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.distribution import Distribution, InvalidDistribution
from autoscaler.simulator.trace import random_for


@pytest.mark.parametrize(
    ("text", "least", "mean", "most"),
    [
        ("300ms", 0.3, 0.3, 0.3),
        ("200ms..400ms", 0.2, 0.3, 0.4),
        ("p50=100ms", 0.1, 0.1, 0.1),
        ("p0=0s,p50=1s,p100=3s", 0.0, 1.25, 3.0),
    ],
)
def test_parse(text: str, least: float, mean: float, most: float) -> None:
    runs = Distribution.parse(text)
    random = random_for(1)
    drawn = [runs.draw(random) for _ in range(4000)]
    assert runs.mean_s == pytest.approx(mean)
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=0.05)
    assert least <= min(drawn) and max(drawn) <= most


@pytest.mark.parametrize(
    "text", ["", "fast", "300", "2s..1s", "p50=1s,p40=2s", "p101=1s", "q50=1s", "p50", "1s..", "p1.2.3=1s", "p50=1s,,p60=2s"]
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    if text == "300":
        assert Distribution.parse(text).mean_s == 300
        return
    with pytest.raises(InvalidDistribution, match="Right are 300ms"):
        Distribution.parse(text)


@given(st.lists(st.floats(0, 1e6), min_size=7, max_size=7).map(sorted), st.integers(0, 1000))
def test_percentiles_come_out_as_they_went_in(values: list[float], seed: int) -> None:
    shares = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
    runs = Distribution(shares, values)
    random = random_for(seed)
    for _ in range(20):
        assert values[0] <= runs.draw(random) <= values[-1] * (1 + 1e-9)

    class Share:
        def __init__(self, share: float) -> None:
            self.share = share

        def random(self) -> float:
            return self.share

    for share, value in zip(shares[:-1], values, strict=False):
        assert runs.draw(Share(share)) == pytest.approx(value)  # type: ignore[arg-type]
