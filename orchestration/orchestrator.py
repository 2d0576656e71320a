"""The seam between the platform and the place where functions run.

Writers (`apply`, `remove`, secrets, namespaces) return when the change is durable; what it sets going is seen
through `watch` and `status`. All calls are made on one event loop and none blocks it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from orchestration.events import Event
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.replica import Replica
from orchestration.rollout import Condition
from orchestration.spec import FunctionSpec
from orchestration.starts import Start
from orchestration.traffic import Table


class NotFound(LookupError):
    """The function, revision, secret or namespace does not exist; the message names it."""


class AlreadyExists(Exception):
    """A secret, namespace or function of that name exists."""


class Refused(Exception):
    """The request contradicts the platform's state (a missing secret, an unknown image); the message says what to do."""


def secrets_missing(namespace: str, missing: Iterable[str], user: str = "") -> Refused:
    """Return the refusal of what needs secrets that are not there; `user` is what uses them, in words."""
    used = f"{user} uses what does not exist: " if user else ""
    return Refused(f"{used}secret {', '.join(missing)} does not exist in namespace {namespace!r}: create it first")


class Unavailable(Exception):
    """The change cannot be made durable (a full disk); its message says what would help. All but `scale` changed nothing."""


class NotNow(Unavailable):
    """The place where functions run does not answer, or is too busy: again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Namespace(msgspec.Struct, frozen=True, omit_defaults=False):
    name: str
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class Usage(msgspec.Struct, frozen=True):
    """`cpu_millicores` over the last seconds, `memory_bytes` now; both summed over the function's replicas."""

    cpu_millicores: float
    memory_bytes: float


class Consumption(msgspec.Struct, frozen=True):
    """What a function's replicas used since the platform started: `cpu_s` never falls. `memory_bytes` is what they hold now."""

    cpu_s: float
    memory_bytes: float


class FunctionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A function with what is true of it now.

    `replicas` is the count that the serving revision should have, `available` how many of them are ready; `wanted` maps each
    kept revision to its count, `failures` those that never became ready or were given up to why, `troubles` those of which
    replicas are not ready now to what keeps one from that. `instances` are all live
    replicas of all revisions. `notes` say what a setting means on this machine: where the secrets are
    mounted, which limits are enforced and by what, which are not. `starts` are the last ones, the latest first.
    """

    function: Function
    replicas: int
    available: int
    instances: tuple[Replica, ...]
    condition: Condition
    notes: tuple[str, ...] = ()
    starts: tuple[Start, ...] = ()
    wanted: Mapping[str, int] = {}
    failures: Mapping[str, str] = {}
    troubles: Mapping[str, str] = {}


class LogLine(msgspec.Struct, frozen=True, rename={"call_id": "callId", "trace_id": "traceId"}, omit_defaults=True):
    """One line that a replica wrote. `timestamp` is RFC 3339 with nanoseconds, UTC; `call_id` is empty outside of calls,
    `trace_id` for calls that were not traced when they came to the replica."""

    name: str
    namespace: str
    instance: str
    timestamp: str
    text: str
    call_id: str = ""
    trace_id: str = ""


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`tail` ≤ 0 means all lines; `since` is Unix seconds or None; `follow` goes on until the reader leaves.

    `call` is a call's id: only what was written in that call.
    """

    function: FunctionId
    instance: str = ""
    call: str = ""
    tail: int = 0
    since: float | None = None
    follow: bool = False


class Orchestrator(Protocol):
    """What the control API, the scaler and the edges need of the place where functions run."""

    async def apply(self, spec: FunctionSpec, *, create: bool | None = None) -> Function:
        """Deploy; durable on return. `create=True` wants it to be new, `False` to exist, None takes both.

        Raises AlreadyExists, NotFound (function or namespace), Refused, settings.InvalidSetting.
        """

    async def remove(self, function: FunctionId) -> None:
        """Remove the function and, after draining, all its replicas. Raises NotFound."""

    def status(self, function: FunctionId) -> FunctionStatus:
        """Return one function. Raises NotFound."""

    def statuses(self, namespace: str) -> list[FunctionStatus]:
        """Return the namespace's functions, by name. Raises NotFound for an unknown namespace."""

    async def usage(self, function: FunctionId) -> Usage | None:
        """Return what the function's replicas use, or None where that cannot be known. Raises NotFound."""

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        """Want `replicas` of the revision `(namespace, name)`. Idempotent; durable on return.

        When fewer are wanted, `victims` (replica ids) go first. Raises NotFound, and Unavailable where the count holds but
        is not durable.
        """

    async def set_traffic(self, function: FunctionId, table: Table, *, known: Table | None = None) -> Function:
        """Have calls go as `table` says, from the next one on; durable on return. The last writer wins, unless it says with
        `known` which table it has seen.

        Raises NotFound, traffic.InvalidTraffic, rollout.Outdated.
        """

    async def roll_back(self, function: FunctionId, to: str | None = None) -> Function:
        """Have all calls go to revision `to`, or the one before the one that serves.

        Raises NotFound, rollout.NothingToMove, traffic.InvalidTraffic.
        """

    async def follow(self, function: FunctionId) -> Function:
        """Have all calls go to the newest revision, and to those that are deployed later.

        Raises NotFound, rollout.NothingToMove.
        """

    async def proceed(self, function: FunctionId, revision: str, step: int) -> None:
        """Bring the gradual rollout of `revision` to `step`; nothing if it is not at the step before. Raises NotFound."""

    async def abort(self, function: FunctionId, revision: str, why: str) -> None:
        """End the gradual rollout of `revision` where it began; nothing if there is none. Raises NotFound."""

    async def prewarm(self, revision: tuple[str, str]) -> None:
        """Have ready what makes the revision's next start quick, without a replica; nothing where a place has no such thing.

        Returns when it is there, or cannot be: a start then says why. Raises NotFound.
        """

    async def cool(self, revision: tuple[str, str]) -> None:
        """Let go of what `prewarm` or a start has left ready, until the next of either. Raises NotFound."""

    def watch(self) -> AsyncIterator[Event]:
        """Yield everything that exists now, then each change, in order. A watcher that falls far behind is ended."""

    def released(self, replica: str) -> None:
        """Acknowledge that a Draining replica has no call in flight and gets no more. Unknown ids are ignored."""

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield lines, oldest first. Raises NotFound when the function never wrote a line and does not exist."""

    async def secrets(self, namespace: str) -> list[str]:
        """Return the names. Raises NotFound for an unknown namespace."""

    async def secret_value(self, namespace: str, name: str) -> bytes:
        """Return a secret, for the platform's own use: no API gives it. Raises NotFound, Refused, Unavailable."""

    async def create_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Raises AlreadyExists, NotFound (namespace), Refused (too large)."""

    async def update_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Replace the value; new processes of functions that use it see it, running ones are rolled. Raises NotFound."""

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Raises NotFound, Refused while a function uses it."""

    async def namespaces(self) -> list[Namespace]:
        """Return all, by name; the default one always exists."""

    async def create_namespace(self, namespace: Namespace) -> None:
        """Raises AlreadyExists."""

    async def update_namespace(self, namespace: Namespace) -> None:
        """Raises NotFound."""

    async def delete_namespace(self, name: str) -> None:
        """Remove it with its secrets. Raises NotFound, Refused for the default one or while it holds functions."""
