"""All replicas, kept from the pods and from our own probes.

The kubelet asks a pod whether it is ready at most once a second and tells it a moment later. So each container that has
begun to run is asked by us too, every 25 ms, and is Running from its first good answer on. That word holds until the
kubelet has called the same container ready once; from then on the kubelet's word counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from orchestration.kubernetes.names import FUNCTION_LABEL
from orchestration.kubernetes.pod_state import is_ready, replica_of, running_container
from orchestration.kubernetes.probing import Target, wait_ready
from orchestration.kubernetes.resource import Manifest
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState


class _Known:
    """One pod: the replica that was told last, and which of its containers answered our probe or was ready."""

    __slots__ = ("confirmed", "pod", "probed", "probing", "ready_at", "replica")

    def __init__(self) -> None:
        self.pod: Manifest = {}
        self.replica: Replica | None = None
        self.probed: str | None = None
        self.confirmed: str | None = None
        self.probing: asyncio.Task[None] | None = None
        self.ready_at: float | None = None


class Replicas:
    """`changed` is told of each change. `target` says how to ask a pod whether it is ready; None: it is not asked."""

    def __init__(
        self,
        changed: Callable[[Replica], None],
        target: Callable[[Manifest], Target | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._changed = changed
        self._target = target
        self._clock = clock
        self._probed = 0
        self._known: dict[str, _Known] = {}
        self._by_function: dict[FunctionId, dict[str, _Known]] = {}

    async def close(self) -> None:
        """End all probes."""
        tasks = [known.probing for known in self._known.values() if known.probing is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def pod_changed(self, before: Manifest | None, now: Manifest | None) -> None:
        """Take what the reflector of the pods tells."""
        if now is None:
            if before is not None:
                self._gone(before["metadata"]["uid"])
            return
        uid = now["metadata"]["uid"]
        if before is not None and before["metadata"]["uid"] != uid:
            self._gone(before["metadata"]["uid"])
        known = self._known.get(uid)
        if known is None:
            known = self._known[uid] = _Known()
            self._by_function.setdefault(_function(now), {})[uid] = known
        known.pod = now
        if is_ready(now):
            known.confirmed = running_container(now)
        self._probe(known)
        self._tell(known)

    def of(self, function: FunctionId) -> tuple[Replica, ...]:
        """Return the function's live replicas, of all revisions."""
        found = [known.replica for known in self._by_function.get(function, {}).values()]
        return tuple(r for r in found if r is not None and r.state is not ReplicaState.STOPPED)

    def ready(self, function: FunctionId, revision: str) -> int:
        return sum(r.revision == revision and r.state is ReplicaState.RUNNING for r in self.of(function))

    def trouble(self, function: FunctionId, revision: str) -> str:
        """Return why a replica of the revision is not ready, if one says so."""
        return next((r.reason for r in self.of(function) if r.revision == revision and r.reason), "")

    def everything(self) -> Iterable[Replica]:
        return [k.replica for k in self._known.values() if k.replica and k.replica.state is not ReplicaState.STOPPED]

    def _gone(self, uid: str) -> None:
        known = self._known.pop(uid, None)
        if known is None:
            return
        if known.probing is not None:
            known.probing.cancel()
        function = _function(known.pod)
        held = self._by_function[function]
        del held[uid]
        if not held:
            del self._by_function[function]
        if known.replica is not None and known.replica.state is not ReplicaState.STOPPED:
            self._changed(_stopped(known.replica))

    def _tell(self, known: _Known) -> None:
        container = running_container(known.pod)
        probed = container is not None and container == known.probed and container != known.confirmed
        replica = replica_of(known.pod, probed=probed)
        if replica.state is ReplicaState.RUNNING:
            known.ready_at = known.ready_at or self._clock()
            replica = replica_of(known.pod, probed=probed, ready_at=known.ready_at)
        else:
            known.ready_at = None
        if replica == known.replica or (known.replica is None and replica.state is ReplicaState.STOPPED):
            return
        known.replica = replica
        self._changed(replica)

    def _probe(self, known: _Known) -> None:
        """Ask a container that has begun to run and that nobody has called ready."""
        container = running_container(known.pod)
        asked = container is not None and container not in (known.probed, known.confirmed)
        if not asked or known.pod["metadata"].get("deletionTimestamp"):
            if known.probing is not None and container != known.probed:
                known.probing.cancel()
                known.probing = None
            return
        if known.probing is None and container is not None and (target := self._target(known.pod)) is not None:
            known.probing = asyncio.create_task(self._ask(known, container, target))

    async def _ask(self, known: _Known, container: str, target: Target) -> None:
        self._probed += 1
        try:
            is_ready_now = await wait_ready(target, lambda: self._probed)
        finally:
            self._probed -= 1
        known.probing = None
        if is_ready_now:
            known.probed = container
            self._tell(known)


def _function(pod: Manifest) -> FunctionId:
    return FunctionId(pod["metadata"]["namespace"], pod["metadata"]["labels"][FUNCTION_LABEL])


def _stopped(replica: Replica) -> Replica:
    import msgspec

    return msgspec.structs.replace(replica, state=ReplicaState.STOPPED)
