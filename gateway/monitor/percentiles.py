"""Percentiles from the counts of duration buckets, read as Prometheus's `histogram_quantile` reads them."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(bounds: Sequence[float], buckets: Sequence[int], part: float) -> float | None:
    """Return the value below which the `part` (0 to 1) of what was counted lies, None when nothing was.

    `buckets[i]` counts values up to `bounds[i]`, and one bucket more the rest. Within a bucket values are taken as evenly
    spread: 100 calls between 5 and 10 ms have their 0.5 at 7.5 ms. What is above the last bound is that bound.
    """
    total = sum(buckets)
    if not total:
        return None
    rank, below, lower = part * total, 0, 0.0
    for bound, count in zip(bounds, buckets, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below += count
        lower = bound
    return bounds[-1]
