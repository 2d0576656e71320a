"""Load as an edge would tell it, for tests."""

from __future__ import annotations

from orchestration.load import LoadSample

NAMESPACE, NAME, REVISION = "openfaas-fn", "hello", "hello-00001"


def sample(
    *,
    concurrency: float | None = None,
    arrivals: int = 0,
    in_flight: int = 0,
    queued: int = 0,
    oldest_wait_s: float = 0.0,
    interval_s: float = 1.0,
    idle_replicas: tuple[str, ...] = (),
    edge: str = "e0",
    name: str = NAME,
    revision: str = REVISION,
) -> LoadSample:
    """The average over the interval is what is there at its end, unless given."""
    return LoadSample(
        edge=edge,
        namespace=NAMESPACE,
        function=name,
        revision=revision,
        at=0.0,
        interval_s=interval_s,
        concurrency=float(in_flight + queued) if concurrency is None else concurrency,
        arrivals=arrivals,
        in_flight=in_flight,
        queued=queued,
        oldest_wait_s=oldest_wait_s,
        idle_replicas=idle_replicas,
    )
