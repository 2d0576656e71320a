"""Writes to Functions what concerns traffic: tables that were asked for, and how far gradual rollouts may go."""

from __future__ import annotations

from typing import Final

from orchestration import rollout
from orchestration.function import Function
from orchestration.kubernetes.api import FUNCTIONS, ApiError, Clash
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import GATEWAY, ROLLOUT_ABORT_ANNOTATION, ROLLOUT_STEP_ANNOTATION
from orchestration.kubernetes.refusals import refusals
from orchestration.kubernetes.resource import Manifest
from orchestration.kubernetes.secrets import Secrets, asked_for
from orchestration.kubernetes.traffic import ALL_STEPS, requested
from orchestration.kubernetes.view import View
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, secrets_missing
from orchestration.traffic import FOLLOWING, Table

TRIES: Final = 5
"""How often a table is written over a version of the Function that is not the newest any more."""


class TrafficWriter:
    """Writes what concerns traffic to Functions of `cluster`; what it decides upon it reads from `view`. Who moves calls holds
    what `locks` says: they may come to revisions with `secrets`."""

    def __init__(self, cluster: Cluster, view: View, secrets: Secrets) -> None:
        self._cluster = cluster
        self._view = view
        self._secrets = secrets

    async def set(self, identity: FunctionId, table: Table, known: Table | None, now: float) -> Function:
        """See `Orchestrator.set_traffic`; also raises Refused, Unavailable."""
        for _ in range(TRIES):
            moved = rollout.set_traffic(self._function(identity), table, now, known=known)
            await self._check_secrets(identity, moved)
            resource = self._view.resource(identity)
            if known is None or resource is None:
                return await self._ask(identity, moved)
            try:
                return await self._ask(identity, moved, {"resourceVersion": resource.metadata.resource_version})
            except Clash:  # perhaps only its status was written, which is no change of the table
                with refusals(f"function {identity.name!r} in namespace {identity.namespace!r}"):
                    self._view.feed(FUNCTIONS, await self._cluster.get(FUNCTIONS, identity.namespace, identity.name))
        raise rollout.Outdated(f"function {identity} is being changed all the time: look at it again")

    async def roll_back(self, identity: FunctionId, to: str | None, now: float) -> Function:
        """See `Orchestrator.roll_back`; also raises Unavailable."""
        moved = rollout.roll_back(self._function(identity), to, self.failures(identity), now)
        await self._check_secrets(identity, moved)
        return await self._ask(identity, moved)

    async def follow(self, identity: FunctionId, now: float) -> Function:
        """See `Orchestrator.follow`; also raises Unavailable."""
        function = self._function(identity)
        moved = rollout.follow(function, self.failures(identity), now)
        await self._check_secrets(identity, moved)
        step = {"annotations": {ROLLOUT_STEP_ANNOTATION: f"{function.newest.name}/{ALL_STEPS}"}}
        return await self._ask(identity, moved, step if function.gradual is not None else {})

    async def proceed(self, identity: FunctionId, revision: str, step: int) -> None:
        """See `Orchestrator.proceed`; also raises Unavailable."""
        gradual = self._function(identity).gradual
        if gradual is not None and gradual.revision == revision and gradual.step == step - 1:
            await self._annotate(identity, {ROLLOUT_STEP_ANNOTATION: f"{revision}/{step}"})

    async def abort(self, identity: FunctionId, revision: str, why: str) -> None:
        """See `Orchestrator.abort`; also raises Unavailable."""
        gradual = self._function(identity).gradual
        if gradual is not None and gradual.revision == revision:
            await self._annotate(identity, {ROLLOUT_ABORT_ANNOTATION: f"{revision}: {why}"})

    async def try_again(self, identity: FunctionId) -> None:
        """Forget that the newest revision was given up: it was deployed again."""
        resource = self._view.resource(identity)
        if resource is not None and ROLLOUT_ABORT_ANNOTATION in resource.metadata.annotations:
            await self._annotate(identity, {ROLLOUT_ABORT_ANNOTATION: None, ROLLOUT_STEP_ANNOTATION: None})

    def failures(self, identity: FunctionId) -> dict[str, str]:
        """Return why revisions never became ready or were given up."""
        resource = self._view.resource(identity)
        if resource is None:
            return {}
        found, held = {failed.revision: failed.why for failed in resource.status.failed}, resource.status.rollout
        return found | {held.revision: held.failure} if held is not None and held.failure is not None else found

    async def _check_secrets(self, identity: FunctionId, moved: Function) -> None:
        """See that revisions that calls were not to come to until now have their secrets. Raises Refused, Unavailable."""
        before = asked_for(self._function(identity))
        for revision in (r for r in moved.revisions if moved.routes_to(r.name) and r.name not in before):
            if missing := await self._secrets.missing(identity.namespace, revision.secrets):
                raise secrets_missing(identity.namespace, missing, revision.name)

    async def _ask(self, identity: FunctionId, function: Function, metadata: Manifest | None = None) -> Function:
        traffic = None if function.split == FOLLOWING else requested(function.split)
        change: Manifest = {"spec": {"traffic": traffic}}
        if metadata:
            change["metadata"] = metadata
        await self._merge(identity, change)
        return function

    async def _annotate(self, identity: FunctionId, annotations: Manifest) -> None:
        await self._merge(identity, {"metadata": {"annotations": annotations}})

    async def _merge(self, identity: FunctionId, change: Manifest) -> None:
        versioned = "resourceVersion" in change.get("metadata", {})
        try:
            document = await self._cluster.merge(FUNCTIONS, identity.namespace, identity.name, change, manager=GATEWAY)
        except ApiError as error:
            if versioned and isinstance(error, Clash):
                raise
            with refusals(f"function {identity.name!r} in namespace {identity.namespace!r}"):
                raise
        self._view.feed(FUNCTIONS, document)

    def _function(self, identity: FunctionId) -> Function:
        function = self._view.function(identity)
        if function is None:
            raise _unknown(identity)
        return function


def _unknown(function: FunctionId) -> NotFound:
    return NotFound(f"there is no function {function.name!r} in namespace {function.namespace!r}")
