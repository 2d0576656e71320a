"""`KubernetesOrchestrator`: the `orchestration.orchestrator.Orchestrator` of a cluster.

It reads from its view and writes through the API server, which keeps all state: a deploy writes the Function, and the
controller, here or in another process, does the rest. Of a warm call the API server hears nothing; a wake is one request.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec

from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.kubernetes.api import FUNCTIONS, POD_METRICS, ApiError
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import FUNCTION_LABEL, GATEWAY
from orchestration.kubernetes.namespaces import Namespaces
from orchestration.kubernetes.plan import expected
from orchestration.kubernetes.pod_logs import read_logs
from orchestration.kubernetes.record import function_manifest
from orchestration.kubernetes.refusals import refusals
from orchestration.kubernetes.resource import Unreadable, read
from orchestration.kubernetes.scaling import AtOnce, Scales
from orchestration.kubernetes.secrets import Secrets
from orchestration.kubernetes.status import condition
from orchestration.kubernetes.traffic_writer import TrafficWriter
from orchestration.kubernetes.view import View
from orchestration.locks import Locks
from orchestration.names import FunctionId, check_function_name
from orchestration.orchestrator import (
    AlreadyExists,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    NotFound,
    NotNow,
    Usage,
    secrets_missing,
)
from orchestration.quantity import cpu_cores, memory_bytes, parse_quantity
from orchestration.queueing import secrets_named
from orchestration.replica import Replica
from orchestration.scaling_labels import OPENFAAS, is_scaling_key, scale_settings, scale_warnings
from orchestration.settings import replica_settings
from orchestration.spec import FunctionSpec, Resources
from orchestration.traffic import Table, parts_of, share_of
from orchestration.watchers import Watchers

Resolve = Callable[[str], Awaitable[str | None]]
"""Returns the digest that an image name stands for now, or None where that cannot be known."""


class KubernetesOrchestrator:
    """Owns nothing but its listeners: cluster and view are entered before it and left after it.

    `scales` writes counts (None: at once), `resolve` finds digests; without it each deploy counts as new. `clock` gives Unix
    seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        view: View,
        *,
        scales: Scales | None = None,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._view = view
        self._scales = scales or AtOnce(cluster, view)
        self._resolve = resolve
        self._clock = clock
        self._secrets = Secrets(cluster, view)
        self._namespaces = Namespaces(cluster, view)
        self._traffic = TrafficWriter(cluster, view, self._secrets)
        self._locks = Locks()
        self._watchers = Watchers(self._snapshot)
        self._told: dict[FunctionId, tuple[Function, dict[str, int]]] = {}

    async def __aenter__(self) -> Self:
        for function in self._view.ids():
            self._function_changed(function)
        self._view.on_function.append(self._function_changed)
        self._view.on_replica.append(self._replica_changed)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view.on_function.remove(self._function_changed)
        self._view.on_replica.remove(self._replica_changed)
        self._watchers.close()

    # functions

    async def apply(self, spec: FunctionSpec, *, create: bool | None = None) -> Function:
        """Deploy: the Function is stored on return. See `Orchestrator.apply`; also raises Unavailable."""
        _check(spec)
        self._namespaces.check(spec.namespace)
        digest = await self._resolve(spec.image) if self._resolve is not None and "@" not in spec.image else None
        is_exact = digest is not None or "@" in spec.image
        manifest = function_manifest(spec, digest=digest, restarted_at=None if is_exact else self._now())
        async with self._locks.referring(spec.id):
            if missing := await self._secrets.missing(spec.namespace, secrets_named(spec)):
                raise secrets_missing(spec.namespace, missing)
            await self._check_existence(spec.id, create)
            with refusals(f"namespace {spec.namespace!r}" if create else f"function {spec.service!r}"):
                document = await self._cluster.apply(FUNCTIONS, manifest, manager=GATEWAY, force=False)
            self._view.feed(FUNCTIONS, document)
            await self._traffic.try_again(spec.id)
        try:
            return expected(read(document), self._view.records(spec.id), self._clock())[0]
        except Unreadable as error:
            raise NotNow(f"the cluster's Function is of another version than this platform's: {error}") from None

    async def remove(self, function: FunctionId) -> None:
        """Remove the Function; the cluster removes what belongs to it. Raises NotFound, Unavailable."""
        async with self._locks.function(function):
            with refusals(_spoken(function)):
                await self._cluster.delete(FUNCTIONS, function.namespace, function.name)
            self._view.drop(FUNCTIONS, function.namespace, function.name)

    def status(self, function: FunctionId) -> FunctionStatus:
        """Return one function. Raises NotFound."""
        resource, known = self._view.resource(function), self._view.function(function)
        observed = self._view.observed(function)
        if resource is None or known is None or observed is None:
            raise NotFound(f"there is no {_spoken(function)}")
        return FunctionStatus(
            function=known,
            replicas=self._wanted(known),
            available=self._view.replicas.ready(function, known.serving.name),
            instances=self._view.replicas.of(function),
            condition=condition(resource, observed, known, self._clock()),
            notes=(*_notes(known, resource.spec.replicas), *scale_warnings(known.spec)),
            wanted=self._counts(known),
            failures=self._traffic.failures(function),
            troubles=observed.trouble,
        )

    def statuses(self, namespace: str) -> list[FunctionStatus]:
        """Return the namespace's functions, by name. Raises NotFound for an unknown namespace."""
        self._namespaces.check(namespace)
        ours = sorted(function for function in self._view.ids() if function.namespace == namespace)
        return [self.status(function) for function in ours if self._view.function(function) is not None]

    async def usage(self, function: FunctionId) -> Usage | None:
        """Return what the metrics server says; None where there is none. Raises NotFound."""
        if self._view.resource(function) is None:
            raise NotFound(f"there is no {_spoken(function)}")
        try:
            pods, _ = await self._cluster.listed(POD_METRICS, function.namespace, selector=f"{FUNCTION_LABEL}={function.name}")
        except ApiError:
            return None
        used = [container["usage"] for pod in pods for container in pod["containers"]]
        return Usage(
            cpu_millicores=sum(float(parse_cpu(u.get("cpu", "0"))) for u in used) * 1000,
            memory_bytes=sum(float(parse_quantity(u.get("memory", "0"))) for u in used),
        )

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        """Want `replicas` of the revision; one request. Of fewer, those that go are closed first (`drains`): one
        more request for each. A pinned function keeps its count.

        Raises NotFound, Unavailable.
        """
        namespace, name = revision
        function = FunctionId(namespace, name.rpartition("-")[0])
        resource, known = self._view.resource(function), self._view.function(function)
        if resource is None or known is None or all(r.name != name for r in known.revisions):
            raise NotFound(f"there is no revision {name!r} in namespace {namespace!r}")
        if resource.spec.replicas is not None and share_of(known.traffic, name):
            return
        if self._scales.wanted(namespace, name) is None:
            raise NotNow(f"revision {name!r} has no Deployment yet: the controller has still to make it")
        with refusals(f"revision {name!r} in namespace {namespace!r}"):
            await self._scales.scale(namespace, name, replicas, victims=victims, manager=GATEWAY)

    async def set_traffic(self, function: FunctionId, table: Table, *, known: Table | None = None) -> Function:
        """Ask for a table: the Function is stored on return. See `Orchestrator.set_traffic`; also raises Unavailable."""
        async with self._locks.referring(function):
            return await self._traffic.set(function, table, known, self._clock())

    async def roll_back(self, function: FunctionId, to: str | None = None) -> Function:
        """Ask for all calls to go to an older revision. See `Orchestrator.roll_back`; also raises Unavailable."""
        async with self._locks.referring(function):
            return await self._traffic.roll_back(function, to, self._clock())

    async def follow(self, function: FunctionId) -> Function:
        """Ask for all calls to go to the newest revision. See `Orchestrator.follow`; also raises Unavailable."""
        async with self._locks.referring(function):
            return await self._traffic.follow(function, self._clock())

    async def proceed(self, function: FunctionId, revision: str, step: int) -> None:
        """Let a gradual rollout go on. Raises NotFound, Unavailable."""
        await self._traffic.proceed(function, revision, step)

    async def abort(self, function: FunctionId, revision: str, why: str) -> None:
        """Have a gradual rollout given up. Raises NotFound, Unavailable."""
        await self._traffic.abort(function, revision, why)

    async def prewarm(self, revision: tuple[str, str]) -> None:
        """Nothing: a pod starts by what the kubelet does."""

    async def cool(self, revision: tuple[str, str]) -> None:
        """Nothing."""

    def watch(self) -> AsyncIterator[Event]:
        """Yield everything that exists now, then each change, in order."""
        return self._watchers.watch()

    def released(self, replica: str) -> None:
        """No call is at a pod that drains: if it was closed to go, it may."""
        self._scales.released(replica)

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield lines, oldest first. Raises NotFound at the first step."""
        return read_logs(self._cluster, self._view, query)

    # secrets and namespaces

    async def secrets(self, namespace: str) -> list[str]:
        """Return the names. Raises NotFound for an unknown namespace."""
        self._namespaces.check(namespace)
        return await self._secrets.names(namespace)

    async def secret_value(self, namespace: str, name: str) -> bytes:
        """Return a secret, for the platform's own use. Raises NotFound, Refused, Unavailable."""
        return await self._secrets.value(namespace, name)

    async def create_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Raises AlreadyExists, NotFound (namespace), Refused, Unavailable."""
        self._namespaces.check(namespace)
        await self._secrets.create(namespace, name, value)

    async def update_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Replace the value and roll the pods that have the old one. Raises NotFound, Refused, Unavailable."""
        self._namespaces.check(namespace)
        async with self._locks.uses(namespace):  # who deploys meanwhile has the new value, or the old one and is rolled
            await self._secrets.update(namespace, name, value)

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Raises NotFound, Refused while a function uses it, Unavailable."""
        async with self._locks.changes(namespace):
            self._namespaces.check(namespace)
            await self._secrets.delete(namespace, name)

    async def namespaces(self) -> list[Namespace]:
        """Return all that hold functions, by name."""
        return self._namespaces.all()

    async def create_namespace(self, namespace: Namespace) -> None:
        """Raises AlreadyExists, Refused, names.InvalidName, Unavailable."""
        await self._namespaces.create(namespace)

    async def update_namespace(self, namespace: Namespace) -> None:
        """Replace labels and annotations. Raises NotFound, Unavailable."""
        await self._namespaces.update(namespace)

    async def delete_namespace(self, name: str) -> None:
        """Remove it with all that is in it. Raises NotFound, Refused, Unavailable."""
        async with self._locks.changes(name):
            await self._namespaces.delete(name)

    # inside

    async def _check_existence(self, function: FunctionId, create: bool | None) -> None:
        """See whether the function exists, by the cluster's word: server-side apply takes both."""
        if create is None:
            return
        try:
            with refusals(_spoken(function)):
                await self._cluster.get(FUNCTIONS, function.namespace, function.name)
        except NotFound:
            if not create:
                raise
            return
        if create:
            raise AlreadyExists(f"function {function.name!r} exists in namespace {function.namespace!r}")

    def _wanted(self, function: Function) -> int:
        wanted = self._scales.wanted(function.spec.namespace, function.serving.name)
        if wanted is not None:
            return wanted
        settings = scale_settings(function.spec)
        return max(1, settings.min_replicas, settings.initial_replicas)

    def _counts(self, function: Function) -> dict[str, int]:
        counts = {r.name: self._scales.wanted(r.namespace, r.name) or 0 for r in function.revisions}
        return counts | {function.serving.name: self._wanted(function)}

    def _snapshot(self) -> Iterator[Event]:
        for function, _ in self._told.values():
            yield FunctionChanged(function)
        for replica in self._view.replicas.everything():
            yield ReplicaChanged(replica)

    def _function_changed(self, identity: FunctionId) -> None:
        resource, function = self._view.resource(identity), self._view.function(identity)
        if resource is None or function is None or resource.metadata.deletion_timestamp is not None:
            if self._told.pop(identity, None) is not None:
                self._watchers.tell(FunctionRemoved(identity.namespace, identity.name))
            return
        now = _pinned(function, resource.spec.replicas), self._counts(function)
        if self._told.get(identity) != now:
            self._told[identity] = now
            self._watchers.tell(FunctionChanged(now[0]))

    def _replica_changed(self, replica: Replica) -> None:
        self._watchers.tell(ReplicaChanged(replica))

    def _now(self) -> str:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).isoformat(timespec="milliseconds")


def _check(spec: FunctionSpec) -> None:
    check_function_name(spec.service)
    scale_settings(spec)
    replica_settings(spec)
    for given in (spec.limits, spec.requests):
        resources = given or Resources()
        if resources.memory is not None:
            memory_bytes(resources.memory)
        if resources.cpu is not None:
            cpu_cores(resources.cpu)


def _pinned(function: Function, replicas: int | None) -> Function:
    """Return the function as the autoscaler is to see it: one that is pinned has that many replicas at least and at most, of
    which each revision has its part."""
    if replicas is None:
        return function
    spec = function.spec
    bounds = {OPENFAAS + "min": str(replicas), OPENFAAS + "max": str(max(1, replicas))}
    pinned = msgspec.structs.replace(
        spec,
        labels={k: v for k, v in spec.labels.items() if not is_scaling_key(k)} | bounds,
        annotations={k: v for k, v in spec.annotations.items() if not is_scaling_key(k)},
    )
    return msgspec.structs.replace(function, spec=pinned, pinned=replicas)


def _notes(function: Function, pinned: int | None) -> tuple[str, ...]:
    found = ["secrets are mounted at /var/openfaas/secrets"] if function.newest.secrets else []
    if pinned is not None:
        parts = parts_of(function.traffic, pinned)
        told = f" ({', '.join(f'{name} has {part}' for name, part in parts.items())})" if len(parts) > 1 else ""
        found.append(f"spec.replicas pins it to {pinned}{told}: it is not scaled")
    return tuple(found)


def parse_cpu(text: str) -> float:
    """Return cores; the metrics server also counts in billionths (`n`) and millionths (`u`)."""
    for suffix, scale in (("n", 1e-9), ("u", 1e-6)):
        if text.endswith(suffix):
            return float(text[:-1]) * scale
    return float(parse_quantity(text))


def _spoken(function: FunctionId) -> str:
    return f"function {function.name!r} in namespace {function.namespace!r}"
