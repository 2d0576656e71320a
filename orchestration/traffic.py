"""Traffic: which share of a function's calls goes to which revision, and which tags address one by name.

There are two tables. The one that was *asked for* may say `@latest`, which stands for the newest revision that became
ready; a table that names revisions only stays as it is whatever is deployed. The one that *holds* says what the other
comes to now, and has no `@latest`: it is what edges deal calls out by.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

LATEST: Final = "@latest"
TAG_LIMIT: Final = 50
MOST_TARGETS: Final = 64

_TAG: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class InvalidTraffic(ValueError):
    """A table of traffic that cannot be; the message says what is wrong with it and what would be right."""


class TrafficTarget(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`percent` (0 to 100) of the calls go to the revision named `revision`; `tag` addresses it by name."""

    revision: str
    percent: int
    tag: str | None = None


Table = tuple[TrafficTarget, ...]

FOLLOWING: Final[Table] = (TrafficTarget(LATEST, 100),)
"""What holds where nobody asked for anything else: all calls go to the newest revision that became ready."""


def all_to(revision: str) -> Table:
    """Return the table that sends every call to one revision."""
    return (TrafficTarget(revision, 100),)


def share_of(table: Iterable[TrafficTarget], revision: str) -> int:
    """Return which percentage of the calls a table gives to a revision."""
    return sum(target.percent for target in table if target.revision == revision)


def parts_of(table: Iterable[TrafficTarget], replicas: int) -> dict[str, int]:
    """Deal out `replicas` to the revisions that have a share of the calls, by these shares (largest remainder), at least one to
    each unless there are none: 4 at 90/10 are 3 and 1, 1 at 90/10 is 1 for each."""
    shares: dict[str, int] = {}
    for target in table:
        if target.percent:
            shares[target.revision] = shares.get(target.revision, 0) + target.percent
    total = sum(shares.values())
    parts = {revision: replicas * share // total for revision, share in shares.items()}
    left = sorted(shares, key=lambda revision: (replicas * shares[revision] % total, shares[revision]), reverse=True)
    for revision in left[: replicas - sum(parts.values())]:
        parts[revision] += 1
    for revision in [revision for revision, part in parts.items() if replicas and not part]:
        most = max(parts, key=lambda other: (parts[other], -shares[other]))
        parts[most] -= parts[most] > 1
        parts[revision] = 1
    return parts


def tags_of(table: Iterable[TrafficTarget], revision: str) -> tuple[str, ...]:
    """Return the tags that address a revision."""
    return tuple(target.tag for target in table if target.tag is not None and target.revision == revision)


def follows(table: Iterable[TrafficTarget]) -> bool:
    """Whether a deploy moves calls: some go to `@latest`."""
    return share_of(table, LATEST) > 0


def check_tag(tag: str) -> str:
    """Return `tag`. Raises InvalidTraffic."""
    if not _TAG.fullmatch(tag) or "--" in tag or len(tag) > TAG_LIMIT:
        raise InvalidTraffic(
            f"tag {tag[: TAG_LIMIT + 1]!r} must be 1 to {TAG_LIMIT} of a-z, 0-9 and '-', without '--', "
            "starting and ending with a letter or digit"
        )
    return tag


def check_table(table: Iterable[TrafficTarget], known: Collection[str]) -> Table:
    """Return the table that was asked for, without targets that say nothing. `known` are the names of the kept revisions.

    Raises InvalidTraffic.
    """
    table = tuple(table)
    if len(table) > MOST_TARGETS:
        raise InvalidTraffic(f"a table has at most {MOST_TARGETS} entries, this one {len(table)}")
    for target in table:
        if target.revision != LATEST and target.revision not in known:
            raise InvalidTraffic(f"there is no revision {target.revision[:80]!r}: {', '.join(known)} are kept, and {LATEST}")
        if not 0 <= target.percent <= 100:
            raise InvalidTraffic(f"{target.revision}={target.percent}: 0 to 100 percent")
        if target.tag is not None:
            check_tag(target.tag)
    named = [(target.revision, target.tag) for target in table]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InvalidTraffic(f"{twice[0]} is named twice: add up its percentages")
    tags = [target.tag for target in table if target.tag is not None]
    if doubled := next((tag for tag in tags if tags.count(tag) > 1), None):
        raise InvalidTraffic(f"tag {doubled!r} is given twice: a tag addresses one revision")
    if (total := sum(target.percent for target in table)) != 100:
        raise InvalidTraffic(f"the percentages come to {total}: they must come to 100")
    return tuple(target for target in table if target.percent or target.tag is not None)
