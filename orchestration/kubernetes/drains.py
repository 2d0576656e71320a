"""Fewer pods in two phases: those that are to go are closed to calls first, and go when no edge has a call there.

    mark (annotation `pinnace.dev/draining`, and as the cheapest to delete)
      → edges see it by their own watch, send no more calls, and say when the last one has ended
      → write the Deployment's scale: Kubernetes deletes the pods that are marked

Which pods Kubernetes deletes is its own choice: those that are not ready first, whatever they cost; so these need no mark.
Until the scale is written a mark can be taken back, and a wake does so: it costs no start. The sleep before a pod's stop is
left for what nobody here decides on: drained nodes, pods that people delete.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Collection, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from orchestration.kubernetes.api import PODS, ApiError, Missing
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import DELETION_COST, DRAINING, REVISION_LABEL
from orchestration.kubernetes.resource import Manifest
from orchestration.kubernetes.scaling import write_scale
from orchestration.kubernetes.view import View
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState

log = logging.getLogger("pinnace.kubernetes")

VICTIM_COST: Final = "-100"
AT_ONCE_S: Final = 1.0
"""For so long who asks for fewer pods waits; calls that take longer are waited for in the background."""
SEEN_S: Final = 0.2
"""From the mark to the scale, where some pods stay: Kubernetes's own controllers have to see the mark."""
MARGIN_S: Final = 5.0
"""Beyond the function's timeout a call cannot be waited for; then the pod's own grace has to do."""
LEFT_AFTER_S: Final = 10.0
"""A pod that is marked and that Kubernetes has not begun to delete so long after the scale stays, and is opened again."""

RevisionKey = tuple[str, str]


class _Drain:
    """Pods of one revision that are closed, `count` are to be left. `over` is set when no edge has a call at any."""

    def __init__(self, count: int, pods: Collection[str], let_go: Collection[str]) -> None:
        self.count = count
        self.pods = frozenset(pods)
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._waiting = set(pods) - set(let_go)
        self.released("")

    def released(self, pod: str) -> None:
        self._waiting.discard(pod)
        if not self._waiting:
            self.over.set()


class Drains:
    """Writes how many pods revisions have. Entered, it listens to the view, whose context is around it."""

    def __init__(self, cluster: Cluster, view: View) -> None:
        self._cluster = cluster
        self._view = view
        self._pending: dict[RevisionKey, _Drain] = {}
        self._there: set[str] = set()
        """Pods that have not stopped."""
        self._let_go: set[str] = set()
        """Those of them that drain, at which no edge has a call."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._there.update(replica.id for replica in self._view.replicas.everything())
        self._view.on_replica.append(self._replica_changed)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view.on_replica.remove(self._replica_changed)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wanted(self, namespace: str, revision: str) -> int | None:
        """Return how many pods are wanted: where some drain, as many as are to be left. None: it has no Deployment."""
        pending = self._pending.get((namespace, revision))
        return pending.count if pending is not None else self._view.wanted(namespace, revision)

    def released(self, replica: str) -> None:
        """No edge has a call at the replica, or sends one."""
        if replica in self._there:  # what stopped meanwhile would be kept for ever
            self._let_go.add(replica)
        for drain in list(self._pending.values()):
            drain.released(replica)

    async def scale(self, namespace: str, revision: str, count: int, *, victims: Sequence[str] = (), manager: str) -> None:
        """Want `count` pods of a revision that has a Deployment; of fewer, `victims` go first. The last word counts.

        Fewer are written when those that go have no calls any more: within AT_ONCE_S before this returns, else later.
        Raises Missing, ApiError.
        """
        key = (namespace, revision)
        pending = self._pending.get(key)
        if pending is not None:
            if pending.count == count:
                return
            self._give_up(key, pending)
        there = self._view.wanted(namespace, revision) or 0
        marked = self._marked(namespace, revision)
        chosen = self._choose(namespace, revision, there - count, marked, victims)
        await self._unmark(namespace, [pod for pod in marked if pod not in chosen], manager)
        if not chosen:
            if there != count:
                await write_scale(self._cluster, self._view, namespace, revision, count, manager=manager)
            return
        drain = self._pending[key] = _Drain(count, chosen, self._let_go)
        try:
            await self._mark(namespace, [pod for pod in chosen if pod not in marked], manager)
        except BaseException:
            self._give_up(key, drain)
            raise
        if self._pending.get(key) is not drain:
            return  # another word came meanwhile
        drain.task = self._start(self._finish(key, drain, manager))
        done, _ = await asyncio.wait([drain.task], timeout=AT_ONCE_S)
        if done and not drain.task.cancelled() and (error := drain.task.exception()) is not None:
            raise error

    def recover(self, manager: str) -> None:
        """Open, soon, what somebody closed who is gone: who begins to lead decides anew."""
        self._start(self._recover(manager))

    def cease(self) -> None:
        """Write nothing that was decided before: somebody else decides now, and opens what is closed (`recover`)."""
        self._pending.clear()
        for task in self._tasks:
            task.cancel()

    # inside

    async def _recover(self, manager: str) -> None:
        for namespace, pods in self._all_marked().items():
            with contextlib.suppress(ApiError):
                await self._unmark(namespace, pods, manager)

    async def _finish(self, key: RevisionKey, drain: _Drain, manager: str) -> None:
        namespace, revision = key
        try:
            if drain.count:
                await asyncio.sleep(SEEN_S)
            try:
                async with asyncio.timeout(self._limit_s(namespace, revision)):
                    await drain.over.wait()
            except TimeoutError:
                log.warning("%s: calls at pods that are to go do not end in time", revision)
            if self._pending.get(key) is not drain:
                return
            await write_scale(self._cluster, self._view, namespace, revision, drain.count, manager=manager)
        finally:
            if self._pending.get(key) is drain:
                del self._pending[key]
        self._start(self._open_those_left(key, drain, manager))

    async def _open_those_left(self, key: RevisionKey, drain: _Drain, manager: str) -> None:
        await asyncio.sleep(LEFT_AFTER_S)
        namespace, revision = key
        if key not in self._pending:
            left = [pod for pod in self._marked(namespace, revision) if pod in drain.pods]
            with contextlib.suppress(ApiError):
                await self._unmark(namespace, left, manager)

    def _choose(self, namespace: str, revision: str, to_go: int, marked: Sequence[str], victims: Sequence[str]) -> list[str]:
        """Return the pods to close: marked ones, then victims, then the youngest; none instead of those that are not ready."""
        running = {r.id: r.started_at or 0.0 for r in self._of(namespace, revision) if r.state is ReplicaState.RUNNING}
        there = self._view.wanted(namespace, revision) or 0
        unready = max(0, there - len(running) - len(marked))
        order = [*marked, *(v for v in victims if v in running), *sorted(running, key=running.__getitem__, reverse=True)]
        return list(dict.fromkeys(order))[: max(0, to_go - unready)]

    def _of(self, namespace: str, revision: str) -> Iterable[Replica]:
        function = FunctionId(namespace, revision.rpartition("-")[0])
        return (r for r in self._view.replicas.of(function) if r.revision == revision)

    def _marked(self, namespace: str, revision: str) -> list[str]:
        found = (self._view.held(PODS, namespace, replica.id) for replica in self._of(namespace, revision))
        return [pod["metadata"]["name"] for pod in found if pod is not None and is_marked(pod)]

    def _all_marked(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for pod in self._view.all(PODS):
            metadata = pod["metadata"]
            key = (metadata["namespace"], metadata["labels"].get(REVISION_LABEL, ""))
            if is_marked(pod) and key not in self._pending:
                found.setdefault(metadata["namespace"], []).append(metadata["name"])
        return found

    async def _mark(self, namespace: str, pods: Sequence[str], manager: str) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        await self._annotate(namespace, pods, {DRAINING: now, DELETION_COST: VICTIM_COST}, manager)

    async def _unmark(self, namespace: str, pods: Sequence[str], manager: str) -> None:
        await self._annotate(namespace, pods, {DRAINING: None, DELETION_COST: None}, manager)

    async def _annotate(self, namespace: str, pods: Sequence[str], annotations: Manifest, manager: str) -> None:
        async def annotate(pod: str) -> None:
            change = {"metadata": {"annotations": annotations}}
            try:
                written = await self._cluster.merge(PODS, namespace, pod, change, manager=manager, urgent=True)
            except Missing:  # it is gone already
                return
            self._view.feed(PODS, written)

        await asyncio.gather(*(annotate(pod) for pod in pods))

    def _limit_s(self, namespace: str, revision: str) -> float:
        function = self._view.function(FunctionId(namespace, revision.rpartition("-")[0]))
        known = (r for r in function.revisions if r.name == revision) if function is not None else ()
        return next((r.settings.timeout_s for r in known), 60.0) + MARGIN_S

    def _replica_changed(self, replica: Replica) -> None:
        if replica.state is ReplicaState.STOPPED:
            self._there.discard(replica.id)
        else:
            self._there.add(replica.id)
        if replica.state is ReplicaState.DRAINING:
            return
        self._let_go.discard(replica.id)
        if replica.state is not ReplicaState.RUNNING:  # it ended by itself: nothing is in flight there
            for drain in list(self._pending.values()):
                drain.released(replica.id)

    def _give_up(self, key: RevisionKey, drain: _Drain) -> None:
        if self._pending.get(key) is drain:
            del self._pending[key]
        if drain.task is not None:
            drain.task.cancel()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("fewer pods could not be written: %s", error)


def is_marked(pod: Manifest) -> bool:
    """Whether the pod is closed to calls and may still be opened."""
    metadata = pod["metadata"]
    return DRAINING in (metadata.get("annotations") or {}) and not metadata.get("deletionTimestamp")
