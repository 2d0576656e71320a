"""An orchestrator that keeps everything in memory and starts nothing: the whole protocol, for tests of what stands on it.

Replicas are `Running` at once. A test that needs them otherwise sets `starts_as` before the deploy and moves them with
`set_state`. Time stands still unless the test moves `now`.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from orchestration import rollout
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.orchestrator import (
    AlreadyExists,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    NotFound,
    Refused,
    Usage,
)
from orchestration.queueing import secrets_named
from orchestration.replica import Replica, ReplicaState, troubles
from orchestration.revision import Revision
from orchestration.rollout import Condition, Phase, deploy, promote
from orchestration.scaling_labels import scale_settings
from orchestration.spec import FunctionSpec
from orchestration.starts import Start
from orchestration.traffic import Table

LARGEST_SECRET_BYTES = 1024 * 1024


class FakeOrchestrator:
    """Implements `orchestration.orchestrator.Orchestrator`.

    `unknown_images` are refused as if nobody had built them. `usages`, `notes` and `starts` are what `usage` and `status` tell.
    `open_streams` counts readers of `logs` and `watch` that have not been closed.
    """

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.starts_as = ReplicaState.RUNNING
        self.unknown_images: set[str] = set()
        self.usages: dict[FunctionId, Usage] = {}
        self.notes: dict[FunctionId, tuple[str, ...]] = {}
        self.starts: dict[FunctionId, tuple[Start, ...]] = {}
        self.failures: dict[str, str] = {}
        self.open_streams = 0
        self._functions: dict[FunctionId, Function] = {}
        self._wanted: dict[tuple[str, str], int] = {}
        self._replicas: dict[str, Replica] = {}
        self._made = 0
        self._namespaces: dict[str, Namespace] = {DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE)}
        self._secrets: dict[str, dict[str, bytes]] = {DEFAULT_NAMESPACE: {}}
        self._lines: dict[FunctionId, list[LogLine]] = {}
        self._watchers: set[asyncio.Queue[Event]] = set()
        self._written = asyncio.Condition()

    # What tests do to it

    async def write(self, function: FunctionId, text: str, *, instance: str = "", call_id: str = "", at: float = 0.0) -> None:
        """Let a replica write one line at `at` (Unix seconds; by default `now`)."""
        moment = datetime.datetime.fromtimestamp(at or self.now, datetime.UTC)
        timestamp = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}000Z"
        instance = instance or next((r.id for r in self._of(function)), f"{function.name}-0")
        async with self._written:
            self._lines.setdefault(function, []).append(
                LogLine(function.name, function.namespace, instance, timestamp, text, call_id)
            )
            self._written.notify_all()

    def set_state(self, replica: str, state: ReplicaState, reason: str = "") -> None:
        """Move a replica to another state; traffic follows when it makes the newest revision ready."""
        before = self._replicas[replica]
        restarts = before.restarts + (state is ReplicaState.CRASH_LOOP)
        after = msgspec.structs.replace(before, state=state, reason=reason, restarts=restarts)
        self._replicas[replica] = after
        self._tell(ReplicaChanged(after))
        if state is ReplicaState.STOPPED:
            del self._replicas[replica]
        self._promote(FunctionId(before.namespace, before.function))

    def secret(self, namespace: str, name: str) -> bytes:
        """Return a secret's value, which no call of the protocol gives."""
        return self._secrets[namespace][name]

    # The protocol

    async def apply(self, spec: FunctionSpec, *, create: bool | None = None) -> Function:
        current = self._functions.get(spec.id)
        self._namespace(spec.namespace)
        if create is True and current is not None:
            raise AlreadyExists(f"function {spec.id} exists")
        if create is False and current is None:
            raise NotFound(f"function {spec.id} not found")
        scale = scale_settings(spec)
        if missing := sorted(set(secrets_named(spec)) - set(self._secrets[spec.namespace])):
            raise Refused(f"secret {missing[0]!r} is not in namespace {spec.namespace}")
        if spec.image in self.unknown_images:
            raise Refused(f"no bundle is named {spec.image!r}: build it first with faas deploy or faas-cli publish")
        bundle = "sha256:" + hashlib.sha256(spec.image.encode()).hexdigest()
        function = deploy(current, spec, bundle, self.now)
        self._functions[spec.id] = function
        for revision in function.revisions:
            self._wanted.setdefault(revision.key, 0 if current else max(1, scale.min_replicas))
        if current is not None:
            self._wanted[function.newest.key] = max(1, self._wanted[current.serving.key], scale.min_replicas)
        self._tell(FunctionChanged(function))
        self._reconcile(function.newest)
        self._promote(function.id)
        return self._functions[spec.id]

    async def remove(self, function: FunctionId) -> None:
        removed = self._function(function)
        del self._functions[function]
        self._tell(FunctionRemoved(function.namespace, function.name))
        for revision in removed.revisions:
            self._wanted[revision.key] = 0
            self._reconcile(revision)
            del self._wanted[revision.key]

    def status(self, function: FunctionId) -> FunctionStatus:
        found = self._function(function)
        serving = found.serving
        return FunctionStatus(
            function=found,
            replicas=self._wanted[serving.key],
            available=self._ready(serving),
            instances=tuple(self._of(function)),
            condition=self._condition(found),
            notes=self.notes.get(function, ()),
            wanted={revision.name: self._wanted[revision.key] for revision in found.revisions},
            failures=self.failures,
            troubles=troubles(self._of(function)),
            starts=self.starts.get(function, ()),
        )

    def statuses(self, namespace: str) -> list[FunctionStatus]:
        self._namespace(namespace)
        return [self.status(f) for f in sorted(self._functions) if f.namespace == namespace]

    async def usage(self, function: FunctionId) -> Usage | None:
        self._function(function)
        return self.usages.get(function)

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        found = next((r for f in self._functions.values() for r in f.revisions if r.key == revision), None)
        if found is None:
            raise NotFound(f"revision {revision[1]} not found in namespace {revision[0]}")
        self._wanted[revision] = replicas
        self._reconcile(found, victims)

    async def set_traffic(self, function: FunctionId, table: Table, *, known: Table | None = None) -> Function:
        return self._move(rollout.set_traffic(self._function(function), table, self.now, known=known))

    async def roll_back(self, function: FunctionId, to: str | None = None) -> Function:
        return self._move(rollout.roll_back(self._function(function), to, self.failures, self.now))

    async def follow(self, function: FunctionId) -> Function:
        return self._move(rollout.follow(self._function(function), self.failures, self.now))

    async def proceed(self, function: FunctionId, revision: str, step: int) -> None:
        self._move(rollout.proceed(self._function(function), revision, step, self.now))

    async def abort(self, function: FunctionId, revision: str, why: str) -> None:
        self.failures[revision] = f"{revision}: {why}"
        self._move(rollout.abort(self._function(function), revision, self.now))

    async def prewarm(self, revision: tuple[str, str]) -> None:
        return

    async def cool(self, revision: tuple[str, str]) -> None:
        return

    async def watch(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        for function in self._functions.values():
            queue.put_nowait(FunctionChanged(function))
        for replica in self._replicas.values():
            queue.put_nowait(ReplicaChanged(replica))
        self._watchers.add(queue)
        self.open_streams += 1
        try:
            while True:
                yield await queue.get()
        finally:
            self.open_streams -= 1
            self._watchers.discard(queue)

    def released(self, replica: str) -> None:
        if (draining := self._replicas.get(replica)) is not None and draining.state is ReplicaState.DRAINING:
            self.set_state(replica, ReplicaState.STOPPED)

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        lines = self._lines.get(query.function)
        if lines is None:
            self._function(query.function)
            lines = self._lines.setdefault(query.function, [])
        self.open_streams += 1
        try:
            seen = len(lines)
            wanted = [line for line in lines if _matches(line, query)]
            for line in wanted[-query.tail :] if query.tail > 0 else wanted:
                yield line
            while query.follow:
                async with self._written:
                    while len(lines) == seen:
                        await self._written.wait()
                new, seen = lines[seen:], len(lines)
                for line in new:
                    if _matches(line, query):
                        yield line
        finally:
            self.open_streams -= 1

    async def secrets(self, namespace: str) -> list[str]:
        self._namespace(namespace)
        return sorted(self._secrets[namespace])

    async def secret_value(self, namespace: str, name: str) -> bytes:
        self._secret(namespace, name)
        return self.secret(namespace, name)

    async def create_secret(self, namespace: str, name: str, value: bytes) -> None:
        self._namespace(namespace)
        if name in self._secrets[namespace]:
            raise AlreadyExists(f"secret {name!r} exists in namespace {namespace}")
        self._keep_secret(namespace, name, value)

    async def update_secret(self, namespace: str, name: str, value: bytes) -> None:
        self._secret(namespace, name)
        self._keep_secret(namespace, name, value)

    async def delete_secret(self, namespace: str, name: str) -> None:
        self._secret(namespace, name)
        for function in self._functions.values():
            if function.spec.namespace == namespace and name in secrets_named(function.spec):
                raise Refused(f"secret {name!r} is used by function {function.id}")
        del self._secrets[namespace][name]

    async def namespaces(self) -> list[Namespace]:
        return [self._namespaces[name] for name in sorted(self._namespaces)]

    async def create_namespace(self, namespace: Namespace) -> None:
        if namespace.name in self._namespaces:
            raise AlreadyExists(f"namespace {namespace.name} exists")
        self._namespaces[namespace.name] = namespace
        self._secrets[namespace.name] = {}

    async def update_namespace(self, namespace: Namespace) -> None:
        self._namespace(namespace.name)
        self._namespaces[namespace.name] = namespace

    async def delete_namespace(self, name: str) -> None:
        self._namespace(name)
        if name == DEFAULT_NAMESPACE:
            raise Refused(f"namespace {name} is the default one and stays")
        if any(f.namespace == name for f in self._functions):
            raise Refused(f"namespace {name} still holds functions")
        del self._namespaces[name], self._secrets[name]

    # What happens inside

    def _function(self, function: FunctionId) -> Function:
        if function not in self._functions:
            raise NotFound(f"function {function} not found")
        return self._functions[function]

    def _namespace(self, name: str) -> None:
        if name not in self._namespaces:
            raise NotFound(f"namespace {name} not found")

    def _secret(self, namespace: str, name: str) -> None:
        self._namespace(namespace)
        if name not in self._secrets[namespace]:
            raise NotFound(f"secret {name!r} not found in namespace {namespace}")

    def _keep_secret(self, namespace: str, name: str, value: bytes) -> None:
        if len(value) > LARGEST_SECRET_BYTES:
            raise Refused(f"secret {name!r} has {len(value)} bytes; at most {LARGEST_SECRET_BYTES} fit")
        self._secrets[namespace][name] = value

    def _of(self, function: FunctionId) -> list[Replica]:
        return [r for r in self._replicas.values() if (r.namespace, r.function) == function]

    def _live(self, revision: Revision) -> list[Replica]:
        return [
            r
            for r in self._replicas.values()
            if (r.namespace, r.revision) == revision.key and r.state is not ReplicaState.DRAINING
        ]

    def _ready(self, revision: Revision) -> int:
        return sum(r.state is ReplicaState.RUNNING for r in self._live(revision))

    def _condition(self, function: Function) -> Condition:
        failed = [r for r in self._live(function.newest) if r.state is ReplicaState.CRASH_LOOP]
        if failed:
            return Condition(Phase.FAILED, failed[0].reason)
        if self._ready(function.newest) >= self._wanted[function.newest.key]:
            return Condition(Phase.READY)
        return Condition(Phase.PROGRESSING, "waiting for replicas")

    def _promote(self, function: FunctionId) -> None:
        current = self._functions.get(function)
        if current is None or not current.rolling or not self._ready(current.newest) or current.newest.name in self.failures:
            return
        self._move(promote(current, self.now))

    def _move(self, function: Function) -> Function:
        before = self._functions[function.id]
        wanted = {revision.name: self._wanted[revision.key] for revision in function.revisions}
        self._functions[function.id] = function
        self._tell(FunctionChanged(function))
        counts = rollout.counts(before, function, wanted, self.failures)
        for revision in function.revisions:
            self._wanted[revision.key] = counts[revision.name]
            self._reconcile(revision)
        return function

    def _reconcile(self, revision: Revision, victims: Sequence[str] = ()) -> None:
        live = self._live(revision)
        while len(live) < self._wanted[revision.key]:
            self._made += 1
            replica = Replica(
                id=f"{revision.name}-{self._made:x}",
                namespace=revision.namespace,
                function=revision.function,
                revision=revision.name,
                state=self.starts_as,
                started_at=self.now,
                pid=10_000 + self._made,
            )
            self._replicas[replica.id] = replica
            self._tell(ReplicaChanged(replica))
            live.append(replica)
        surplus = len(live) - self._wanted[revision.key]
        for replica in sorted(live, key=lambda r: r.id not in victims)[:surplus]:
            self.set_state(replica.id, ReplicaState.DRAINING)
            self.set_state(replica.id, ReplicaState.STOPPED)

    def _tell(self, event: Event) -> None:
        for queue in self._watchers:
            queue.put_nowait(event)


def _matches(line: LogLine, query: LogQuery) -> bool:
    written = datetime.datetime.fromisoformat(line.timestamp).timestamp()
    named = query.instance in ("", line.instance) and query.call in ("", line.call_id)
    return named and (query.since is None or written >= query.since)
