"""What edges are called: a name is `PLACE.RANDOM`, new for each process. A place has one process at a time, as a pod has; where
that is not known there is none.

So who comes to a place tells that the one before it there has ended, and that a place is no more tells it too.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection

PlacesGone = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Returns those of some places that are no more. Raises OSError where that cannot be known now."""


def new_name(place: str = "") -> str:
    """Return a name that no process had before."""
    made = secrets.token_hex(6)
    return f"{place}.{made}" if place else made


def place_of(name: str) -> str:
    """Return where a process is; empty where that is not known."""
    return name.rpartition(".")[0]


async def nobody_knows(places: Collection[str]) -> Collection[str]:
    """Return nothing: where no place is known."""
    return ()
