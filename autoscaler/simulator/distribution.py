"""Times that are not always the same: a distribution given by some of its percentiles.

Between two known percentiles the values are spread evenly (the quantile function is linear there), so that the 50th and the
99th percentile of what is drawn are exactly those that were given.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from random import Random
from typing import Self

from orchestration.duration import InvalidDuration, format_duration, parse_duration_s


class InvalidDistribution(ValueError):
    """Not a distribution of times; the message names the text and gives examples."""


class Distribution:
    """Seconds, drawn by quantile. `shares` rise from 0 to 1, `values_s` (≥ 0) never fall."""

    __slots__ = ("_shares", "_slopes", "_values_s")

    def __init__(self, shares: Sequence[float], values_s: Sequence[float]) -> None:
        if len(shares) != len(values_s) or not shares:
            raise InvalidDistribution("as many shares as values, at least one")
        if any(b < a for a, b in itertools.pairwise(values_s)) or values_s[0] < 0:
            raise InvalidDistribution("percentiles are at least 0 and never fall")
        if len(shares) > 1 and (shares[0] != 0 or shares[-1] != 1 or any(b <= a for a, b in itertools.pairwise(shares))):
            raise InvalidDistribution("shares rise from 0 to 1")
        self._shares = tuple(shares)
        self._values_s = tuple(values_s)
        steps = list(zip(zip(shares, values_s, strict=True), zip(shares[1:], values_s[1:], strict=True), strict=False))
        self._slopes = tuple((high - low) / (to - of) for (of, low), (to, high) in steps)

    @classmethod
    def constant(cls, value_s: float) -> Self:
        """Always the same."""
        return cls((0.0,), (value_s,))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `300ms`, `200ms..500ms` (evenly between) or `p50=300ms,p99=900ms` (percentiles). Raises InvalidDistribution."""
        try:
            if "=" in text:
                return cls._percentiles(text)
            low, dots, high = text.partition("..")
            if not dots:
                return cls.constant(parse_duration_s(low))
            return cls((0.0, 1.0), (parse_duration_s(low), parse_duration_s(high)))
        except (InvalidDuration, InvalidDistribution) as error:
            raise InvalidDistribution(
                f"{text!r} is not a time: {error}. Right are 300ms, 200ms..500ms, or p50=300ms,p99=900ms"
            ) from None

    @classmethod
    def _percentiles(cls, text: str) -> Self:
        known: dict[float, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            number = name.removeprefix("p")
            if not name.startswith("p") or not number.replace(".", "", 1).isdecimal() or not 0 <= float(number) <= 100:
                raise InvalidDistribution(f"{part.strip()!r} is no percentile such as p50=300ms")
            known[float(number) / 100] = parse_duration_s(value)
        shares = sorted(known)
        values = [known[share] for share in shares]
        if shares[0] > 0:  # beyond what is known it is as at the last one known
            shares, values = [0.0, *shares], [values[0], *values]
        if shares[-1] < 1:
            shares, values = [*shares, 1.0], [*values, values[-1]]
        return cls(shares, values)

    def draw(self, random: Random) -> float:
        """Return one value."""
        if not self._slopes:
            return self._values_s[0]
        share = random.random()
        i = bisect_right(self._shares, share) - 1
        return self._values_s[i] + (share - self._shares[i]) * self._slopes[i]

    @property
    def mean_s(self) -> float:
        """The mean of what is drawn."""
        if not self._slopes:
            return self._values_s[0]
        steps = zip(self._shares, self._shares[1:], self._values_s, self._values_s[1:], strict=False)
        return sum((to - of) * (low + high) / 2 for of, to, low, high in steps)

    def __str__(self) -> str:
        if not self._slopes:
            return format_duration(self._values_s[0])
        return (
            f"{format_duration(self._values_s[0])}..{format_duration(self._values_s[-1])} (mean {format_duration(self.mean_s)})"
        )
