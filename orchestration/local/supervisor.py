"""Keeps as many replicas of each revision as are wanted: starts what is missing, stops what is too many.

A revision whose environment changed (a secret has a new value) is *rolled*: its replicas become outdated, as many new ones
are started, and for each new one that runs an outdated one is stopped.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Callable, Iterable, Sequence

from orchestration.local.replica_process import STOP_GRACE_S, ReplicaProcess, Starter
from orchestration.local.start_places import StartPlaces
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState
from orchestration.revision import Revision
from orchestration.starts import StartBook

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

# Which replica goes first when there are too many: those that serve nobody yet, then the youngest.
_LEAST_USE = {ReplicaState.CRASH_LOOP: 0, ReplicaState.PENDING: 1, ReplicaState.RUNNING: 2}


class Supervisor:
    """Owns all replicas. `changed` is called with a replica's new state before anything follows from it; `starts` is told
    of each start."""

    def __init__(
        self, starter: Starter, changed: Callable[[Replica], None], clock: Callable[[], float], starts: StartBook | None = None
    ) -> None:
        self._starter = starter
        self._starts = starts if starts is not None else StartBook()
        self._changed = changed
        self._clock = clock
        self._places = StartPlaces()
        self._wanted: dict[tuple[str, str], tuple[Revision, int]] = {}
        self._replicas: dict[str, ReplicaProcess] = {}
        self._by_function: dict[FunctionId, dict[str, ReplicaProcess]] = {}
        self._closed = False

    def want(self, revision: Revision, count: int, victims: Sequence[str] = ()) -> None:
        """Want `count` replicas of the revision; when there are more, `victims` go first."""
        if count:
            self._wanted[revision.key] = (revision, count)
        else:
            self._wanted.pop(revision.key, None)
        self._reconcile(revision, count, victims)

    def roll(self, revision: Revision) -> None:
        """Replace all replicas of the revision by new ones, without a moment in which fewer are ready."""
        for process in self._of(revision):
            process.outdated = True
        self._reconcile(revision, self._wanted.get(revision.key, (revision, 0))[1])

    def released(self, replica: str) -> None:
        if process := self._replicas.get(replica):
            process.released()

    def replicas(self, function: FunctionId) -> tuple[Replica, ...]:
        """Return all live replicas of all revisions of the function."""
        return tuple(process.replica for process in self._by_function.get(function, {}).values())

    def processes(self, function: FunctionId) -> list[ReplicaProcess]:
        return list(self._by_function.get(function, {}).values())

    def all_processes(self) -> list[ReplicaProcess]:
        return list(self._replicas.values())

    def everything(self) -> Iterable[Replica]:
        return [process.replica for process in self._replicas.values()]

    def ready(self, revision: Revision) -> int:
        """Return how many replicas of the revision run, and are not about to stop."""
        return sum(process.running and not process.stopping for process in self._of(revision))

    async def removed(self, function: FunctionId) -> None:
        """Return when nothing is left of the function's replicas that are stopping."""
        await asyncio.gather(*(process.stopped() for process in self.processes(function) if process.stopping))

    async def close(self, *, drain_s: float, grace_s: float) -> None:
        """Stop everything."""
        self._closed = True
        self._wanted.clear()
        processes = list(self._replicas.values())
        for process in processes:
            process.stop(drain_s=drain_s, grace_s=grace_s)
        await asyncio.gather(*(process.stopped() for process in processes), return_exceptions=True)

    def _of(self, revision: Revision) -> list[ReplicaProcess]:
        function = FunctionId(revision.namespace, revision.function)
        return [p for p in self._by_function.get(function, {}).values() if p.revision.name == revision.name]

    def _reconcile(self, revision: Revision, count: int, victims: Sequence[str] = ()) -> None:
        if self._closed:
            return
        live = [process for process in self._of(revision) if not process.stopping]
        fresh = [process for process in live if not process.outdated]
        for _ in range(count - len(fresh)):
            self._begin(revision)
        spare = sorted(fresh, key=lambda p: (p.replica.id not in victims, _LEAST_USE.get(p.replica.state, 0), -_born(p)))
        for process in spare[: max(0, len(fresh) - count)]:
            process.stop(grace_s=STOP_GRACE_S)
        outdated = [process for process in live if process.outdated]
        ready = sum(process.running for process in fresh)
        for process in outdated[: max(0, len(outdated) - max(0, count - ready))]:
            process.stop(grace_s=STOP_GRACE_S)

    def _begin(self, revision: Revision) -> None:
        identity = f"{revision.name}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"
        function = FunctionId(revision.namespace, revision.function)
        started = functools.partial(self._starts.add, function)
        process = ReplicaProcess(identity, revision, self._starter, self._places, self._on_change, self._clock, started)
        self._replicas[identity] = process
        self._by_function.setdefault(function, {})[identity] = process
        process.begin()

    def _on_change(self, process: ReplicaProcess) -> None:
        replica = process.replica
        if replica.state is ReplicaState.STOPPED:
            function = FunctionId(replica.namespace, replica.function)
            del self._replicas[replica.id]
            del self._by_function[function][replica.id]
            if not self._by_function[function]:
                del self._by_function[function]
        self._changed(replica)
        wanted = self._wanted.get(process.revision.key)
        if wanted is not None and replica.state in (ReplicaState.RUNNING, ReplicaState.STOPPED):
            self._reconcile(*wanted)


def _born(process: ReplicaProcess) -> float:
    return process.replica.started_at or float("inf")
