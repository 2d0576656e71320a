"""The controller: carries out what `plan` says, for one function at a time.

The unit of work is a function that something happened to: it, or anything made for it, changed, or its time has come. It is
put on a queue once, however much happens, and worked on by one of WORKERS. What fails is tried again with growing pauses
(0.2 s doubling to a minute). Only who leads works; a new leader looks at everything.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from orchestration.kubernetes.api import (
    DEPLOYMENTS,
    FUNCTIONS,
    KINDS,
    REVISIONS,
    SERVICE_ACCOUNTS,
    ApiError,
    Clash,
    Exists,
    Forbidden,
    Invalid,
    Missing,
)
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import CONTROLLER, REVISION_LABEL
from orchestration.kubernetes.observed import Observed
from orchestration.kubernetes.plan import Plan, plan
from orchestration.kubernetes.reconcile_spans import OnSpan, ReconcileSpans
from orchestration.kubernetes.record import controller_revision, function_id
from orchestration.kubernetes.render import PLATFORM_NAMESPACE
from orchestration.kubernetes.resource import FunctionResource, Manifest, Status
from orchestration.kubernetes.scaling import AtOnce, Scales
from orchestration.kubernetes.status import refused_status
from orchestration.kubernetes.view import View
from orchestration.names import FunctionId
from orchestration.rollout import READY_WITHIN_S

log = logging.getLogger("pinnace.controller")

WORKERS: Final = 8
FIRST_RETRY_S: Final = 0.2
LONGEST_RETRY_S: Final = 60.0


class Controller:
    """Owns the queue and the workers. `clock` gives Unix seconds."""

    def __init__(
        self,
        cluster: Cluster,
        view: View,
        *,
        leads: bool = True,
        platform_namespace: str = PLATFORM_NAMESPACE,
        scales: Scales | None = None,
        clock: Callable[[], float] = time.time,
        ready_within_s: float = READY_WITHIN_S,
    ) -> None:
        self._spans = ReconcileSpans()
        self._scales = scales or AtOnce(cluster, view)
        self._cluster = cluster
        self._view = view
        self._leads = leads
        self._platform_namespace = platform_namespace
        self._clock = clock
        self._ready_within_s = ready_within_s
        self._waiting: asyncio.Queue[FunctionId] = asyncio.Queue()  # each function at most once
        self._queued: set[FunctionId] = set()
        self._working: set[FunctionId] = set()
        self._again: set[FunctionId] = set()
        self._failures: dict[FunctionId, int] = {}
        self._timers: dict[FunctionId, asyncio.TimerHandle] = {}
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._view.on_function.append(self.touch)
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        self.lead(self._leads)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view.on_function.remove(self.touch)
        for timer in self._timers.values():
            timer.cancel()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def trace(self, on_span: OnSpan) -> None:
        """Tell `on_span` from now on what was done when."""
        self._spans.on_span = on_span

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that must go on as long as the controller is used."""
        return self._workers

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or worked on."""
        return not self._queued and not self._working

    @property
    def failing(self) -> list[FunctionId]:
        """The functions that could not be carried out when they were last looked at."""
        return list(self._failures)

    def lead(self, leads: bool) -> None:
        """Begin or cease to write; who begins looks at every function."""
        self._leads = leads
        if leads:
            for function in self._view.ids():
                self.touch(function)

    def touch(self, function: FunctionId) -> None:
        """Look at the function soon."""
        if not self._leads or function in self._queued:
            return
        if function in self._working:
            self._again.add(function)
            return
        self._queued.add(function)
        self._waiting.put_nowait(function)

    async def _work(self) -> None:
        while True:
            function = await self._waiting.get()
            self._queued.discard(function)
            if not self._leads:
                continue
            self._working.add(function)
            try:
                await self._reconcile(function)
            finally:
                self._working.discard(function)
                if function in self._again:
                    self._again.discard(function)
                    self.touch(function)

    async def _reconcile(self, function: FunctionId) -> None:
        if (timer := self._timers.pop(function, None)) is not None:
            timer.cancel()
        observed = self._view.observed(function)
        if observed is None:
            self._failures.pop(function, None)
            return
        try:
            with self._spans.reconcile(function):
                found = plan(
                    observed, self._clock(), platform_namespace=self._platform_namespace, ready_within_s=self._ready_within_s
                )
                await self._carry_out(observed, found)
        except Exists:  # the view was behind: it will be told
            self._later(function, FIRST_RETRY_S)
        except (Clash, Invalid, Forbidden) as error:
            await self._told_off(observed.function, error)
            self._retry(function, error)
        except ApiError as error:
            self._retry(function, error)
        except Exception as error:  # a defect, here or in what was written: the others go on
            log.exception("%s: cannot be reconciled", function)
            self._retry(function, error)
        else:
            self._failures.pop(function, None)
            if found.again_s is not None:
                self._later(function, found.again_s + 0.01)

    async def _carry_out(self, observed: Observed, found: Plan) -> None:
        resource = observed.function
        namespace = resource.metadata.namespace
        for record in found.create:
            revision = controller_revision(resource.metadata, record)
            with self._spans.write("create", REVISIONS, namespace, revision["metadata"]["name"]):
                made = await self._cluster.create(REVISIONS, revision, manager=CONTROLLER)
            self._view.feed(REVISIONS, made)
        refused = await self._apply_all(found.apply, found.newest)
        scale = {revision: count for revision, count in found.scale.items() if revision not in refused}
        more = {r: n for r, n in scale.items() if n > (self._scales.wanted(namespace, r) or 0)}
        await self._scale(namespace, more)
        if found.status is not None:
            await self._write_status(resource, found.status)
        await self._scale(namespace, {r: n for r, n in scale.items() if r not in more})  # after their calls go elsewhere
        for kind, name in found.delete:
            await self._delete(kind, namespace, name)
        for name in found.forget:
            await self._delete("ControllerRevision", namespace, name)

    async def _scale(self, namespace: str, counts: Mapping[str, int]) -> None:
        for revision, count in counts.items():
            with self._spans.write("scale", DEPLOYMENTS, namespace, revision):
                await self._scales.scale(namespace, revision, count, manager=CONTROLLER)

    async def _apply_all(self, manifests: Sequence[Manifest], newest: str) -> set[str]:
        """Apply all at the same time; return the revisions that are refused.

        What is refused of an older revision must not be in the way of the newest, which may be its repair.
        """
        refused = set()
        results = await asyncio.gather(*(self._apply(manifest) for manifest in manifests), return_exceptions=True)
        for manifest, result in zip(manifests, results, strict=True):
            revision = manifest["metadata"]["labels"].get(REVISION_LABEL, newest)
            if isinstance(result, Clash | Invalid | Forbidden) and revision != newest:
                log.warning("%s: %s", revision, result)
                refused.add(revision)
            elif isinstance(result, BaseException):
                raise result
        return refused

    async def _apply(self, manifest: Manifest) -> None:
        """Write our own objects by force; what is there and is not ours is a Clash, and stays as it is."""
        kind, metadata = KINDS[manifest["kind"]], manifest["metadata"]
        is_ours = self._view.held(kind, metadata["namespace"], metadata["name"]) is not None
        if kind is SERVICE_ACCOUNTS and not is_ours:  # another's has no field that ours would contradict: it would become ours
            await self._make_account(manifest)
            return
        with self._spans.write("apply", kind, metadata["namespace"], metadata["name"]):
            applied = await self._cluster.apply(kind, manifest, manager=CONTROLLER, force=is_ours)
        self._view.feed(kind, applied)

    async def _make_account(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        try:
            with self._spans.write("create", SERVICE_ACCOUNTS, manifest["metadata"]["namespace"], name):
                made = await self._cluster.create(SERVICE_ACCOUNTS, manifest, manager=CONTROLLER)
            self._view.feed(SERVICE_ACCOUNTS, made)
        except Exists:
            raise Clash(
                409, "Conflict", f"there is a service account {name!r} already: name it in pod.serviceAccountName"
            ) from None

    async def _write_status(self, resource: FunctionResource, status: Status) -> None:
        metadata = resource.metadata
        change = {"status": status_document(status)}
        try:
            with self._spans.write("update status of", FUNCTIONS, metadata.namespace, metadata.name):
                written = await self._cluster.merge(
                    FUNCTIONS, metadata.namespace, metadata.name, change, manager=CONTROLLER, part="status"
                )
        except Missing:  # it was removed meanwhile
            return
        self._view.feed(FUNCTIONS, written)

    async def _delete(self, kind: str, namespace: str, name: str) -> None:
        held = self._view.held(KINDS[kind], namespace, name)
        try:
            with self._spans.write("delete", KINDS[kind], namespace, name):
                await self._cluster.delete(KINDS[kind], namespace, name, uid=held["metadata"]["uid"] if held else "")
        except Missing:
            self._view.drop(KINDS[kind], namespace, name)
        except Clash:  # another took its name meanwhile: the watch will tell
            return

    async def _told_off(self, resource: FunctionResource, error: ApiError) -> None:
        """Say in the status what the API server would not take."""
        status = refused_status(resource, error.reason or "Refused", error.message, self._clock())
        if status is not None:
            try:
                await self._write_status(resource, status)
            except ApiError as second:
                log.warning("%s: the status cannot be written: %s", function_id(resource.metadata), second.message)

    def _retry(self, function: FunctionId, error: Exception) -> None:
        failures = self._failures[function] = self._failures.get(function, 0) + 1
        put_off_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
        pause_s = min(LONGEST_RETRY_S, max(put_off_s, FIRST_RETRY_S * 2 ** min(failures - 1, 16)))
        log.warning("%s: %s; again in %.1f s", function, error, pause_s)
        self._later(function, pause_s * random.uniform(0.8, 1.2))  # noqa: S311

    def _later(self, function: FunctionId, delay_s: float) -> None:
        if (timer := self._timers.pop(function, None)) is not None:
            timer.cancel()
        self._timers[function] = asyncio.get_running_loop().call_later(delay_s, self._due, function)

    def _due(self, function: FunctionId) -> None:
        self._timers.pop(function, None)
        self.touch(function)


def status_document(status: Status) -> Manifest:
    """Return a status as a merge patch: what is not set is taken away."""
    document: Manifest = {field.encode_name: None for field in msgspec.structs.fields(Status)}
    document |= msgspec.to_builtins(status)
    if status.rollout is not None:
        unset = dict.fromkeys(("failure", "aborted", "step", "percent", "stepSince"))
        document["rollout"] = unset | msgspec.to_builtins(status.rollout)
    return document
