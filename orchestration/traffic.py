"""Traffic: which share of a function's calls goes to which revision."""

from __future__ import annotations

import msgspec


class TrafficTarget(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`percent` (0 to 100) of the calls go to the revision named `revision`; `tag` addresses it by name."""

    revision: str
    percent: int
    tag: str | None = None


def all_to(revision: str) -> tuple[TrafficTarget, ...]:
    """Return the table that sends every call to one revision."""
    return (TrafficTarget(revision, 100),)
