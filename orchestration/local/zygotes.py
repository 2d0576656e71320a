"""All zygotes: which revisions have one, and starts that go through them or, where that cannot be, past them.

A start of a revision finds its zygote, or begins one and waits for it: that costs what a plain start does, and the next
ones 2-3 ms. What cannot be forked is known after one try and started plainly from then on, for a reason that people can read.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection, Coroutine
from typing import Any

import msgspec

from orchestration.local.launch import Launched, Launcher, LaunchFailed
from orchestration.local.memory_budget import MemoryBudget
from orchestration.local.zygote import Unfit, Zygote, ZygoteEnded
from orchestration.names import FunctionId
from orchestration.revision import Revision
from orchestration.settings import ZYGOTE_LABEL, wants_zygote

log = logging.getLogger("pinnace.zygote")

Key = tuple[str, str]

ENDS_IN_A_ROW = 3


class _Standing(msgspec.Struct):
    """What is known of a revision: `unfit` says in one line why its replicas import for themselves (empty: by their nature),
    `ends` counts zygotes that ended by themselves since one has forked."""

    unfit: str | None = None
    ends: int = 0


class Zygotes:
    """Starts replicas (`replica_process.Starter`). Leaving nothing behind is `close`'s.

    `budget` bounds the memory that they take.
    """

    def __init__(self, launcher: Launcher, budget: MemoryBudget) -> None:
        self._launcher = launcher
        self._budget = budget
        self._numbers = itertools.count(1)
        self._living: dict[Key, Zygote] = {}
        self._standing: dict[Key, _Standing] = {}
        self._rooms: dict[str, list[asyncio.Task[None]]] = {}
        self._forked_by: dict[str, Zygote] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # What a replica's owner asks for.

    def prepared(self, revision: Revision) -> bool:
        """Whether the revision has a zygote that can fork."""
        zygote = self._living.get(revision.key)
        return zygote is not None and zygote.ready and zygote.weighed

    async def prepare(self, revision: Revision) -> None:
        """Have a zygote of the revision, if it can have one; it may take as long as the handler's import.

        It may be cancelled: the zygote is there for the next start then. Raises LaunchFailed where the import fails.
        """
        for _ in range(ENDS_IN_A_ROW):
            zygote = await self._of(revision)
            if zygote is None:
                return
            try:
                await zygote.opened()
            except Unfit as error:
                self._standing[revision.key] = _Standing(str(error))
                log.info("%s: replicas import the handler themselves: %s", revision.name, error)
            except ZygoteEnded as error:
                self._ended_by_itself(revision, error)
            except LaunchFailed:
                self._drop(zygote)
                raise
            else:
                if zygote.ready:
                    self._keep_within_budget(zygote)
                    return
            self._drop(zygote)

    async def start(self, revision: Revision, replica: str) -> Launched:
        """Start one process of the revision for the replica of that id. Raises LaunchFailed."""
        zygote = self._living.get(revision.key)
        if zygote is None or not zygote.ready:
            return await self._launcher.start(revision, replica)
        try:
            launched = await zygote.fork(replica)
        except ZygoteEnded as error:
            self._ended_by_itself(revision, error)
            self._drop(zygote)
            return await self._launcher.start(revision, replica)
        except LaunchFailed:
            self._drop(zygote)
            raise
        self._standing[revision.key].ends = 0
        self._budget.use(revision.key)
        if revision.key not in self._budget:  # it had no room, and was there for this one start
            self._drop(zygote)
        self._forked_by[launched.process.identity] = zygote
        return launched

    def ended(self, launched: Launched) -> None:
        """Take away what was the process's own."""
        self._launcher.ended(launched)
        zygote = self._forked_by.pop(launched.process.identity, None)
        if zygote is not None and launched.room is not None:
            replica = launched.process.identity.partition("/")[0]
            self._rooms.setdefault(replica, []).append(self._do(zygote.left(launched.room)))

    async def gone(self, replica: str) -> None:
        """Take away what was the replica's own, when none of its processes is left."""
        await asyncio.gather(*self._rooms.pop(replica, ()))
        await self._launcher.gone(replica)

    async def output(self, replica: str, within_s: float) -> str:
        """Return the last line that the replica's ended process wrote; `within_s` bounds the wait for it."""
        return await self._launcher.output(replica, within_s)

    # What the orchestrator asks for.

    def note(self, revision: Revision) -> str:
        """Say in one line how the revision's replicas start; empty before it is known."""
        if not wants_zygote(revision.labels, revision.annotations):
            return f"replicas import the handler themselves: {ZYGOTE_LABEL} is false"
        if not self._budget.most_bytes:
            return "replicas import the handler themselves: no memory is set aside for zygotes"
        if (standing := self._standing.get(revision.key)) and standing.unfit:
            return f"replicas import the handler themselves: {standing.unfit}"
        zygote = self._living.get(revision.key)
        if zygote is not None and zygote.ready:
            return f"replicas are forks of a process with the handler imported (pid {zygote.pid})"
        return ""

    def cool(self, revision: Revision) -> None:
        """End the revision's zygote, if it has one."""
        if zygote := self._living.get(revision.key):
            self._drop(zygote)

    def outdated(self, revision: Revision) -> None:
        """The revision's environment has changed: its next replicas come from a new zygote, which starts now."""
        if zygote := self._living.get(revision.key):
            self._drop(zygote)
            self._begin(revision)

    def keep(self, function: FunctionId, revisions: Collection[str]) -> None:
        """Only these revisions of the function may have zygotes from now on."""
        for key in [key for key in (*self._standing, *self._living) if key[0] == function.namespace]:
            if key[1].rpartition("-")[0] == function.name and key[1] not in revisions:
                self._standing.pop(key, None)  # another revision may have the name, when the function is made anew
                if zygote := self._living.get(key):
                    self._drop(zygote)

    def pids(self) -> dict[int, str]:
        """Return the zygotes that can fork: pid → revision."""
        return {zygote.pid: zygote.revision.name for zygote in self._living.values() if zygote.ready and zygote.pid}

    async def close(self) -> None:
        """End all zygotes, and what is being taken away."""
        for zygote in list(self._living.values()):
            self._drop(zygote)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _of(self, revision: Revision) -> Zygote | None:
        """Return the revision's zygote, which may have yet to open; None where it cannot have one."""
        if zygote := self._living.get(revision.key):
            return zygote
        standing = self._standing.setdefault(revision.key, _Standing())
        if standing.unfit is not None or not self._budget.most_bytes:
            return None
        if not wants_zygote(revision.labels, revision.annotations):
            return None
        try:
            standing.unfit = await asyncio.to_thread(self._launcher.cannot_fork, revision)
        except (OSError, LookupError):
            return None  # the plain start says what is wrong
        if standing.unfit is not None:
            return None
        return self._living.get(revision.key) or self._begin(revision)

    def _keep_within_budget(self, zygote: Zygote) -> None:
        """Weigh a zygote that has just opened against the others. One without room stays for the start that waits for it."""
        key = zygote.revision.key
        if key in self._budget or zygote.weighed:
            return
        zygote.weighed = True
        size, most = zygote.memory_bytes, self._budget.most_bytes
        self._budget.keep(key, cost_s=zygote.import_s, size_bytes=size, drop=lambda: self._drop(zygote))
        if size > most:
            self._standing[key].unfit = f"its zygote takes {size >> 20} MiB, and all together may take {most >> 20} MiB"

    def _ended_by_itself(self, revision: Revision, how: ZygoteEnded) -> None:
        standing = self._standing.setdefault(revision.key, _Standing())
        standing.ends += 1
        if standing.ends >= ENDS_IN_A_ROW:
            standing.unfit = f"its zygote ended {standing.ends} times before it could fork: {how}"

    def _begin(self, revision: Revision) -> Zygote:
        zygote = Zygote(f"{revision.name}-zygote-{next(self._numbers)}", revision, self._launcher)
        self._living[revision.key] = zygote
        return zygote

    def _drop(self, zygote: Zygote) -> None:
        if self._living.get(zygote.revision.key) is zygote:
            del self._living[zygote.revision.key]
            self._budget.forget(zygote.revision.key)
            self._do(zygote.close())

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
