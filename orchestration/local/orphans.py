"""Reaps what becomes a child of this process without being its own.

The platform is a child subreaper (so that it can end what a killed keeper leaves), and therefore also inherits the orphans
of build workers. Nobody waits for those: left alone they stay zombies. A child of the platform's own is waited for
by its owner at once, so a zombie that is seen twice, `EVERY_S` apart, is nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

EVERY_S = 10.0


async def reap(every_s: float = EVERY_S) -> None:
    """Go on for ever; cancel it to end."""
    seen: set[int] = set()
    while True:
        await asyncio.sleep(every_s)
        seen = await asyncio.to_thread(reap_once, seen)  # a look at every process of the machine


def reap_once(seen: Iterable[int]) -> set[int]:
    """Reap the zombies among the children that were zombies before (`seen`); return those that are new."""
    now = _zombies()
    for pid in now.intersection(seen):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return now.difference(seen)


def _zombies() -> set[int]:
    """Return the ids of this process's children that have ended and were not waited for."""
    found, own = set(), str(os.getpid())
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it is gone by now
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if (state, parent) == ("Z", own):
                    found.add(int(folder.name))
    return found
