"""`LocalOrchestrator`: the `orchestration.orchestrator.Orchestrator` of one machine.

It answers from memory, checks what is asked for, and makes each change durable before it acknowledges it; `rollouts` then
carries it out. Writers of one function take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestration import rollout
from orchestration.bundle import BundleSource, UnknownBundle
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.local.deploys import check_deploy, first_record, next_record
from orchestration.local.failures import Conflict, StorageError
from orchestration.local.launch import LaunchFailed
from orchestration.local.logs import KEEP_S, QUOTA_BYTES
from orchestration.local.machine import Machine
from orchestration.local.namespaces import Namespaces
from orchestration.local.notes import notes
from orchestration.local.rollouts import Rollouts, no_function
from orchestration.local.store import Record
from orchestration.local.supervisor import Supervisor
from orchestration.local.usage import ConsumptionMeter, UsageMeter
from orchestration.local.zygotes import Zygotes
from orchestration.locks import Locks
from orchestration.names import FunctionId
from orchestration.orchestrator import (
    AlreadyExists,
    Consumption,
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
from orchestration.scaling_labels import scale_warnings
from orchestration.spec import FunctionSpec
from orchestration.starts import StartBook
from orchestration.traffic import Table
from orchestration.watchers import Watchers

CLOSE_DRAIN_S = 2.0
CLOSE_GRACE_S = 3.0


class LocalOrchestrator:
    """Runs functions as processes of this machine. Made by `open`.

    `run_dir` is the folder for sockets, which others may put theirs into as well.
    """

    def __init__(self, machine: Machine, *, clock: Callable[[], float], ready_within_s: float) -> None:
        state, store = machine.state, machine.store
        self.run_dir = machine.run_dir
        self.cgroups = machine.cgroups
        self._store = store
        self._logs = machine.logs
        self._bundles = machine.bundles
        self._isolation = machine.isolation
        self._keeper = machine.keeper
        self._stems = machine.stems
        self._clock = clock
        self._locks = locks = Locks()
        self._watchers = Watchers(self._snapshot)
        self._zygotes = Zygotes(machine.launcher(self._user_of), machine.budget)
        self.starts = StartBook()
        self._supervisor = Supervisor(self._zygotes, self._replica_changed, clock, self.starts)
        self._rollouts = Rollouts(
            state.records,
            store,
            self._supervisor,
            self._watchers.tell,
            locks.function,
            clock,
            ready_within_s,
            self._zygotes.keep,
        )
        self._namespaces = Namespaces(
            state.namespaces, store, machine.secrets, self._rollouts.functions, locks.changes, machine.isolation.namespaces
        )
        self._usage = UsageMeter()
        self._running_commands = machine.running_commands
        self._consumption = ConsumptionMeter()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        data_dir: Path,
        bundles: BundleSource,
        *,
        run_dir: Path | None = None,
        clock: Callable[[], float] = time.time,
        log_quota_bytes: int = QUOTA_BYTES,
        log_keep_s: float = KEEP_S,
        ready_within_s: float = rollout.READY_WITHIN_S,
        zygote_budget_bytes: int | None = None,
    ) -> AsyncIterator[LocalOrchestrator]:
        """Take the data folder, start the keeper and all replicas that should run; at the end stop them, within 8 s.

        `run_dir` is a short path for sockets; one is chosen when absent. `clock` gives Unix seconds. `zygote_budget_bytes`
        is the most memory for zygotes and stems: an eighth of the machine's when absent, 0 for none. Raises
        failures.StorageError (DataFolderLocked, NewerSchema, StorageFull) and failures.Unreachable.
        """
        async with Machine.open(
            data_dir.absolute(),
            bundles,
            run_dir=run_dir,
            log_quota_bytes=log_quota_bytes,
            log_keep_s=log_keep_s,
            zygote_budget_bytes=zygote_budget_bytes,
        ) as machine:
            orchestrator = cls(machine, clock=clock, ready_within_s=ready_within_s)
            orchestrator._rollouts.start()
            try:
                yield orchestrator
            finally:
                await orchestrator._close()

    async def _close(self) -> None:
        await self._rollouts.close()
        drain_s = CLOSE_DRAIN_S if len(self._watchers) else 0.0
        await self._supervisor.close(drain_s=drain_s, grace_s=CLOSE_GRACE_S)
        await self._zygotes.close()
        self._watchers.close()

    @property
    def keeper_pid(self) -> int | None:
        return self._keeper.pid

    @property
    def zygote_pids(self) -> dict[int, str]:
        """The processes that replicas are forked from: pid → revision."""
        return self._zygotes.pids()

    @property
    def stem_pids(self) -> list[int]:
        """The processes that zygotes are forked from."""
        return self._stems.pids()

    def bundles_in_use(self) -> set[str]:
        """Return the digests of all bundles that a kept revision runs: the others may be collected."""
        found = {revision.bundle for record in self._rollouts.records.values() for revision in record.function.revisions}
        self._running_commands &= found
        return found

    async def apply(self, spec: FunctionSpec, *, create: bool | None = None) -> Function:
        """Deploy; durable on return. See `Orchestrator.apply`."""
        check_deploy(spec)
        self._namespaces.check(spec.namespace)
        try:
            bundle = await asyncio.to_thread(self._bundles.resolve, spec.image)
        except UnknownBundle as error:
            raise Refused(str(error)) from None
        async with self._locks.referring(spec.id):
            self._namespaces.check(spec.namespace)
            current = self._rollouts.records.get(spec.id)
            if current is not None and create is True:
                raise AlreadyExists(f"function {spec.service!r} exists in namespace {spec.namespace!r}")
            if current is None and create is False:
                raise no_function(spec.id)
            self._namespaces.check_secrets(spec.namespace, secrets_named(spec))
            if current is None:
                self._logs.clear(*spec.id)  # an earlier function's of that name
            try:
                record = await self._store.put(self._deployed(current, spec, bundle.digest))
            except Conflict:  # the namespace was removed at the same time
                raise NotFound(f"there is no namespace {spec.namespace!r}") from None
            self._rollouts.records[spec.id] = record
            if bundle.runs_command:
                self._running_commands.add(bundle.digest)
            self._watchers.tell(FunctionChanged(record.function))
            self._rollouts.deployed(record)
        return record.function

    async def remove(self, function: FunctionId) -> None:
        """Remove the function; its replicas drain and stop. Raises NotFound."""
        async with self._locks.function(function):
            record = self._record(function)
            await self._store.remove(function)
            self._rollouts.forget(record)
            self.starts.forget(function)
            self._watchers.tell(FunctionRemoved(function.namespace, function.name))

    def status(self, function: FunctionId) -> FunctionStatus:
        """Return one function. Raises NotFound."""
        return self._status(self._record(function))

    def statuses(self, namespace: str) -> list[FunctionStatus]:
        """Return the namespace's functions, by name. Raises NotFound for an unknown namespace."""
        self._namespaces.check(namespace)
        found = [record for identity, record in self._rollouts.records.items() if identity.namespace == namespace]
        return [self._status(record) for record in sorted(found, key=lambda record: record.function.id)]

    async def usage(self, function: FunctionId) -> Usage | None:
        """Return what the function's replicas use. Raises NotFound."""
        self._record(function)
        return await self._usage.measure(self._supervisor.processes(function))

    async def consumption(self) -> Mapping[FunctionId, Consumption]:
        """Return what the replicas of each function have used, for functions that had any since the platform started."""
        return await self._consumption.measure(self._supervisor.all_processes(), self._rollouts.records)

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        """Want `replicas` of the revision; it takes effect at once and is durable on return.

        Raises NotFound, also for a revision that gets no calls any more: nobody would take its replicas away again; and
        StorageError where it cannot be made durable. It holds then all the same: a full disk keeps no caller waiting.
        """
        namespace, name = revision
        identity = FunctionId(namespace, name.rpartition("-")[0])
        async with self._locks.function(identity):
            found = self._revision(revision)
            record = self._rollouts.records[identity]
            if replicas and not record.function.routes_to(name):
                raise NotFound(f"revision {name!r} in namespace {namespace!r} gets no calls any more")
            before = record.wanted.get(name, 0)
            self._rollouts.scaled(identity, found, replicas, victims)
            try:
                await self._store.want(identity, found.number, replicas)
            except StorageError as error:
                raise type(error)(f"{name} is scaled to {replicas}, but only until the platform ends: {error}") from None
            finally:
                if before != replicas:
                    self._watchers.tell(FunctionChanged(record.function))

    async def set_traffic(self, function: FunctionId, table: Table, *, known: Table | None = None) -> Function:
        """Have calls go as `table` says. Raises NotFound, traffic.InvalidTraffic, rollout.Outdated."""
        return await self._moved(function, lambda record, now: rollout.set_traffic(record.function, table, now, known=known))

    async def roll_back(self, function: FunctionId, to: str | None = None) -> Function:
        """Have all calls go to an older revision. Raises NotFound, rollout.NothingToMove, traffic.InvalidTraffic."""
        return await self._moved(function, lambda record, now: rollout.roll_back(record.function, to, record.failures, now))

    async def follow(self, function: FunctionId) -> Function:
        """Have all calls go to the newest revision. Raises NotFound, rollout.NothingToMove."""
        return await self._moved(function, lambda record, now: rollout.follow(record.function, record.failures, now))

    async def proceed(self, function: FunctionId, revision: str, step: int) -> None:
        """Bring a gradual rollout to `step`. Raises NotFound."""
        await self._rollouts.move(function, lambda record: rollout.proceed(record.function, revision, step, self._clock()))

    async def abort(self, function: FunctionId, revision: str, why: str) -> None:
        """End a gradual rollout where it began. Raises NotFound."""
        await self._rollouts.move(
            function, lambda record: rollout.abort(record.function, revision, self._clock()), (revision, f"{revision}: {why}")
        )

    async def prewarm(self, revision: tuple[str, str]) -> None:
        """Have a zygote of the revision, within the budget. Raises NotFound."""
        with contextlib.suppress(LaunchFailed):
            await self._zygotes.prepare(self._revision(revision))

    async def cool(self, revision: tuple[str, str]) -> None:
        """End the revision's zygote; its replicas run on. Raises NotFound."""
        self._zygotes.cool(self._revision(revision))

    def watch(self) -> AsyncIterator[Event]:
        """Yield everything that exists now, then each change, in order."""
        return self._watchers.watch()

    def released(self, replica: str) -> None:
        """Acknowledge that a Draining replica has no call in flight and gets no more."""
        self._supervisor.released(replica)

    def say(self, function: FunctionId, replica: str, text: str, call_id: str = "") -> None:
        """Write a line of the platform's own into the function's log, about a replica and, where one is named, a call."""
        self._logs.say(function, replica, text, call_id)

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield lines, oldest first. Raises NotFound at the first step."""
        return self._logs.read(query, exists=query.function in self._rollouts.records)

    async def secrets(self, namespace: str) -> list[str]:
        """Return the names. Raises NotFound for an unknown namespace."""
        return self._namespaces.secrets(namespace)

    async def secret_value(self, namespace: str, name: str) -> bytes:
        """Return a secret, for the platform's own use. Raises NotFound, Unavailable."""
        return await self._namespaces.secret_value(namespace, name)

    async def create_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Raises AlreadyExists, NotFound (namespace), Refused, names.InvalidName."""
        await self._namespaces.create_secret(namespace, name, value)

    async def update_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Replace the value and roll the replicas that have the old one. Raises NotFound, Refused."""
        await self._namespaces.update_secret(namespace, name, value, self._outdated)

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Raises NotFound, Refused while a function uses it."""
        await self._namespaces.delete_secret(namespace, name)

    async def namespaces(self) -> list[Namespace]:
        """Return all, by name."""
        return self._namespaces.all()

    async def create_namespace(self, namespace: Namespace) -> None:
        """Raises AlreadyExists, Refused when no more fit, names.InvalidName."""
        await self._namespaces.create(namespace)

    async def update_namespace(self, namespace: Namespace) -> None:
        """Replace labels and annotations. Raises NotFound."""
        await self._namespaces.update(namespace)

    async def delete_namespace(self, name: str) -> None:
        """Remove it with its secrets. Raises NotFound, Refused for the default one or while it holds functions."""
        await self._namespaces.delete(name)
        self._logs.clear(name)

    async def _moved(self, identity: FunctionId, change: Callable[[Record, float], Function]) -> Function:
        """Move calls as a user asks, unless a revision that they would come to lacks a secret. Raises Refused, NotFound, …"""

        def moved(record: Record) -> Function:
            function = change(record, self._clock())
            for revision in function.revisions:
                if function.routes_to(revision.name) and not record.function.routes_to(revision.name):
                    self._namespaces.check_secrets(identity.namespace, revision.secrets, revision.name)
            return function

        async with self._locks.uses(identity.namespace):  # and the function's lock inside: see `locks`
            return await self._rollouts.move(identity, moved)

    def _deployed(self, current: Record | None, spec: FunctionSpec, bundle: str) -> Record:
        if current is None:
            return first_record(spec, bundle, self._clock())
        return next_record(current, spec, bundle, self._clock(), self._rollouts.trouble(current.function.newest))

    def _status(self, record: Record) -> FunctionStatus:
        function = record.function
        return FunctionStatus(
            function=function,
            replicas=record.wanted.get(function.serving.name, 0),
            available=self._supervisor.ready(function.serving),
            instances=(instances := self._supervisor.replicas(function.id)),
            condition=self._rollouts.condition(record),
            wanted=record.wanted,
            failures=record.failures,
            troubles=troubles(instances),
            starts=self.starts.last(function.id),
            notes=(
                *notes(
                    function.newest,
                    self._isolation,
                    self.cgroups,
                    self._user_of(function.id),
                    runs_command=function.newest.bundle in self._running_commands,
                ),
                *filter(None, [self._zygotes.note(function.newest)]),
                *scale_warnings(function.spec),
            ),
        )

    def _outdated(self, revision: Revision) -> None:
        self._zygotes.outdated(revision)
        self._supervisor.roll(revision)

    def _snapshot(self) -> Iterator[Event]:
        for record in self._rollouts.records.values():
            yield FunctionChanged(record.function)
        for replica in self._supervisor.everything():
            yield ReplicaChanged(replica)

    def _replica_changed(self, replica: Replica) -> None:
        self._watchers.tell(ReplicaChanged(replica))
        self._rollouts.replica_changed(replica)
        function = FunctionId(replica.namespace, replica.function)
        if replica.state is ReplicaState.STOPPED and function not in self._rollouts.records:
            self.starts.forget(function)  # it may have been starting when its function was removed

    def _user_of(self, function: FunctionId) -> int | None:
        record = self._record(function)
        return self._isolation.user(record.namespace_number, record.user)

    def _revision(self, key: tuple[str, str]) -> Revision:
        namespace, name = key
        record = self._rollouts.records.get(FunctionId(namespace, name.rpartition("-")[0]))
        found = next((r for r in record.function.revisions if r.name == name), None) if record else None
        if found is None:
            raise NotFound(f"there is no revision {name!r} in namespace {namespace!r}")
        return found

    def _record(self, function: FunctionId) -> Record:
        record = self._rollouts.records.get(function)
        if record is None:
            raise no_function(function)
        return record
