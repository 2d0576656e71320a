"""What is in the cluster, as this process knows it: Functions with all that was made for them, and their replicas.

The gateway, the edges and the controller see the same view; only who writes differs. Of a function that the controller has
not seen yet, the first revision is what the controller is going to make: early calls wait for it instead of finding nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Final, Self

from orchestration.function import Function
from orchestration.kubernetes.api import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    FUNCTIONS,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    REVISIONS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Kind,
)
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import FUNCTION_LABEL, NAMESPACE_ANNOTATION, PORT, RESERVED, REVISION_LABEL
from orchestration.kubernetes.observed import ObjectKey, Observed, function_of, replicas_of
from orchestration.kubernetes.plan import expected
from orchestration.kubernetes.pod import probe_of
from orchestration.kubernetes.pod_state import read_time
from orchestration.kubernetes.probing import Target
from orchestration.kubernetes.record import Record, read_record
from orchestration.kubernetes.reflector import Reflector
from orchestration.kubernetes.replicas import Replicas
from orchestration.kubernetes.resource import FunctionResource, Manifest, Unreadable, read
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.replica import Replica
from orchestration.settings import InvalidSetting

log = logging.getLogger("pinnace.kubernetes")

SYNC_LIMIT_S: Final = 60.0
_OWNED: Final = (DEPLOYMENTS, SERVICES, NETWORK_POLICIES, DISRUPTION_BUDGETS, SERVICE_ACCOUNTS)
CALLED: Final = (REVISIONS, FUNCTIONS, PODS)
"""The kinds that who only calls functions has to know."""


class NotSynced(Exception):
    """The cluster did not say what it holds within SYNC_LIMIT_S; the message names the kind and the problem."""


class View:
    """Owns the watches and the probes. Listeners are called on the loop, after the view has changed.

    With `kinds` it knows of those only: a Deployment that it does not know of has no count.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        kinds: Collection[Kind] | None = None,
        probes: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._probes = probes
        self._functions: dict[FunctionId, FunctionResource] = {}
        self._records: dict[FunctionId, dict[str, Record]] = {}
        self._objects: dict[FunctionId, dict[ObjectKey, Manifest]] = {}
        self._namespaces: dict[str, Manifest] = {}
        self.replicas = Replicas(self._replica_changed, self._target, clock)
        self.on_function: list[Callable[[FunctionId], None]] = []
        self.on_replica: list[Callable[[Replica], None]] = []
        ours = FUNCTION_LABEL
        reflectors = {
            NAMESPACES: Reflector(cluster, NAMESPACES, self._namespace_changed),
            REVISIONS: Reflector(cluster, REVISIONS, self._record_changed, selector=ours),
            FUNCTIONS: Reflector(cluster, FUNCTIONS, self._function_changed),
            PODS: Reflector(cluster, PODS, self.replicas.pod_changed, selector=ours),
        } | {kind: Reflector(cluster, kind, self._object_changed(kind), selector=ours) for kind in _OWNED}
        self._reflectors = {kind: made for kind, made in reflectors.items() if kinds is None or kind in kinds}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Return when everything is known. Raises NotSynced."""
        self._stack.push_async_callback(self.replicas.close)
        try:
            for reflector in self._reflectors.values():
                await self._stack.enter_async_context(reflector)
            async with asyncio.timeout(SYNC_LIMIT_S):
                for reflector in self._reflectors.values():
                    await reflector.synced.wait()
        except TimeoutError:
            await self._stack.aclose()
            late = next(r for r in self._reflectors.values() if not r.synced.is_set())
            raise NotSynced(f"the cluster does not list {late.kind.plural}: {late.problem or 'no answer'}") from None
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that must go on as long as the view is used."""
        return [reflector.task for reflector in self._reflectors.values()]

    @property
    def reflectors(self) -> list[Reflector]:
        """The copies that the view is made of, and what is wrong with each."""
        return list(self._reflectors.values())

    # what is there

    def ids(self) -> list[FunctionId]:
        return list(self._functions)

    def resource(self, function: FunctionId) -> FunctionResource | None:
        return self._functions.get(function)

    def records(self, function: FunctionId) -> tuple[Record, ...]:
        held = self._records.get(function, {}).values()
        return tuple(sorted(held, key=lambda record: record.revision.number))

    def observed(self, function: FunctionId) -> Observed | None:
        """Return all that is known of a function; None where there is none."""
        resource = self._functions.get(function)
        if resource is None:
            return None
        records = self.records(function)
        names = [record.revision.name for record in records]
        return Observed(
            function=resource,
            records=records,
            objects=self._objects.get(function, {}),
            ready={name: self.replicas.ready(function, name) for name in names},
            trouble={name: trouble for name in names if (trouble := self.trouble(function, name))},
        )

    def function(self, function: FunctionId) -> Function | None:
        """Return a function as the domain knows it; None where there is none, or none that makes sense."""
        resource = self._functions.get(function)
        if resource is None:
            return None
        records = self.records(function)
        if found := function_of(resource, records):
            return found
        try:
            return expected(resource, records, read_time(resource.metadata.creation_timestamp) or self._clock())[0]
        except InvalidSetting:
            return None

    def wanted(self, namespace: str, revision: str) -> int | None:
        """Return how many pods a revision should have; None where it has no Deployment."""
        return replicas_of(self.held(DEPLOYMENTS, namespace, revision))

    def trouble(self, function: FunctionId, revision: str) -> str:
        """Return why a revision has not the pods it should have: a pod's reason, or why none may be made."""
        if said := self.replicas.trouble(function, revision):
            return said
        deployment = self.held(DEPLOYMENTS, function.namespace, revision) or {}
        for condition in deployment.get("status", {}).get("conditions") or ():
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return f"{condition.get('reason', '')}: {condition.get('message', '')}"
        return ""

    def namespaces(self) -> list[Manifest]:
        """Return those that hold functions, by name."""
        found = [n for name, n in sorted(self._namespaces.items()) if name == DEFAULT_NAMESPACE or _is_ours(n)]
        return found if DEFAULT_NAMESPACE in self._namespaces else [*found, {"metadata": {"name": DEFAULT_NAMESPACE}}]

    def feed(self, kind: Kind, document: Manifest) -> None:
        """Take an object as the answer to a write showed it."""
        if (reflector := self._reflectors.get(kind)) is not None:
            reflector.feed(document)

    def drop(self, kind: Kind, namespace: str, name: str) -> None:
        """Take it that an object is gone, as an answer showed."""
        if (reflector := self._reflectors.get(kind)) is not None:
            reflector.drop(namespace, name)

    def all(self, kind: Kind) -> list[Manifest]:
        """Return all objects of a kind that are known."""
        reflector = self._reflectors.get(kind)
        return list(reflector) if reflector is not None else []

    def held(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        reflector = self._reflectors.get(kind)
        return reflector.get(namespace, name) if reflector is not None else None

    # what the reflectors tell

    def _function_changed(self, before: Manifest | None, now: Manifest | None) -> None:
        metadata = (now or before or {})["metadata"]
        identity = FunctionId(metadata["namespace"], metadata["name"])
        if now is None:
            self._functions.pop(identity, None)
        else:
            try:
                self._functions[identity] = read(now)
            except Unreadable as error:
                log.error("%s is not of this version's schema and is left alone: %s", identity, error)
                self._functions.pop(identity, None)
        self._touched(identity)

    def _record_changed(self, before: Manifest | None, now: Manifest | None) -> None:
        document = now or before or {}
        identity = _function_of(document)
        try:
            record = read_record(document)
        except Unreadable as error:
            log.error("revision %s is left alone: %s", identity, error)
            return
        held = self._records.setdefault(identity, {})
        if now is None:
            held.pop(record.revision.name, None)
        else:
            held[record.revision.name] = record
        if not held:
            del self._records[identity]
        self._touched(identity)

    def _object_changed(self, kind: Kind) -> Callable[[Manifest | None, Manifest | None], None]:
        def changed(before: Manifest | None, now: Manifest | None) -> None:
            document = now or before or {}
            identity, key = _function_of(document), (kind.name, document["metadata"]["name"])
            held = self._objects.setdefault(identity, {})
            if now is None:
                held.pop(key, None)
            else:
                held[key] = now
            if not held:
                del self._objects[identity]
            self._touched(identity)

        return changed

    def _namespace_changed(self, before: Manifest | None, now: Manifest | None) -> None:
        name = (now or before or {})["metadata"]["name"]
        if now is None or now["metadata"].get("deletionTimestamp"):
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = now

    def _replica_changed(self, replica: Replica) -> None:
        for listener in self.on_replica:
            listener(replica)
        self._touched(FunctionId(replica.namespace, replica.function))

    def _touched(self, function: FunctionId) -> None:
        for listener in self.on_function:
            listener(function)

    def _target(self, pod: Manifest) -> Target | None:
        labels = pod["metadata"]["labels"]
        records: Iterable[Record] = self.records(FunctionId(pod["metadata"]["namespace"], labels[FUNCTION_LABEL]))
        record = next((r for r in records if r.revision.name == labels.get(REVISION_LABEL)), None)
        if record is None or not self._probes:
            return None
        probe = probe_of(record.revision, record.content.pod)
        return Target(pod["status"]["podIP"], PORT, probe.path)


def _function_of(document: Manifest) -> FunctionId:
    return FunctionId(document["metadata"]["namespace"], document["metadata"]["labels"][FUNCTION_LABEL])


def _is_ours(namespace: Manifest) -> bool:
    metadata = namespace["metadata"]
    is_marked = (metadata.get("annotations") or {}).get(NAMESPACE_ANNOTATION) in ("1", "true")
    return is_marked and not metadata["name"].startswith(RESERVED)
