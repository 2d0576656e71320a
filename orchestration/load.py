"""What an edge tells about the load on one revision: exact figures, pushed when they could change a decision."""

from __future__ import annotations

import msgspec


class LoadSample(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Load on one revision as one edge saw it during the `interval_s` seconds that end at `at` (monotonic seconds).

    `concurrency` is the time-average of calls in flight plus waiting (the integral over the interval divided by it);
    `arrivals` the calls that came during it; `in_flight` and `queued` are the values at its end, `oldest_wait_s` is for how
    long the call at the queue's front has waited then. `idle_replicas` are ids of replicas without a call in flight, the
    ones to stop first. `edge` names the edge process.
    """

    edge: str
    namespace: str
    function: str
    revision: str
    at: float
    interval_s: float
    concurrency: float
    arrivals: int
    in_flight: int
    queued: int
    oldest_wait_s: float = 0.0
    idle_replicas: tuple[str, ...] = ()
