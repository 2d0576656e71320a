"""The load on one function over some time, as edges told it: what a simulation of other settings starts from."""

from __future__ import annotations

import msgspec


class LoadHistory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry in each list for each `LoadSample`, in the order in which they were told.

    `at` is Unix seconds, `edge` a number that stands for who told it; the others are what `LoadSample` says of them. `since` is
    Unix seconds from which on nothing is missing.
    """

    since: float
    at: tuple[float, ...] = ()
    interval_s: tuple[float, ...] = ()
    concurrency: tuple[float, ...] = ()
    arrivals: tuple[int, ...] = ()
    in_flight: tuple[int, ...] = ()
    queued: tuple[int, ...] = ()
    edge: tuple[int, ...] = ()
