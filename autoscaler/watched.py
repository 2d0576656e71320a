"""What the scaler knows of one revision that calls can come to, and of the function it is of.

Each such revision has a decider of its own. The *main* one, which gets the largest share of the calls, is what people see of a
function's scaling; when most calls go to another revision its decider goes along, with all that it knows of the load.
"""

from __future__ import annotations

import asyncio
from math import inf

import msgspec

from autoscaler.decider import Decider
from orchestration.decisions import Decision, Rule, Scaling
from orchestration.duration import format_duration
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState
from orchestration.scaling import ScaleSettings
from orchestration.traffic import Table, parts_of, share_of

FIRST_RETRY_S = 0.1

RevisionKey = tuple[str, str]
"""(namespace, revision name)"""


class Watched:
    """One revision. `idle` maps an edge to its replicas without calls, `states` its replicas to where they are; `written` is
    the count that was last asked for (None: not known). `warm_for` is `warmth`'s: the time for which it was prepared, -inf for
    none yet, inf once it was let go of."""

    __slots__ = (
        "again",
        "changes",
        "decided",
        "decider",
        "function",
        "idle",
        "latest",
        "main",
        "retry_s",
        "revision",
        "settings",
        "states",
        "touched",
        "trouble",
        "warm_for",
        "writing",
        "written",
    )

    def __init__(self, function: FunctionId, revision: str, settings: ScaleSettings) -> None:
        self.function = function
        self.revision = revision
        self.settings = settings
        self.main = False
        self.decider: Decider | None = None
        self.states: dict[str, ReplicaState] = {}
        self.idle: dict[str, tuple[str, ...]] = {}
        self.written: int | None = None
        self.writing: asyncio.Task[None] | None = None
        self.again = False
        self.touched = False
        self.retry_s = FIRST_RETRY_S
        self.latest: Decision | None = None
        self.changes: tuple[Decision, ...] = ()
        self.decided: dict[Rule, int] = {}
        self.trouble = ""
        self.warm_for = -inf

    @property
    def key(self) -> RevisionKey:
        return (self.function.namespace, self.revision)

    @property
    def ready(self) -> int:
        return sum(state is ReplicaState.RUNNING for state in self.states.values())

    @property
    def failing(self) -> int:
        return sum(state is ReplicaState.CRASH_LOOP for state in self.states.values())

    def idle_replicas(self) -> tuple[str, ...]:
        """Return the replicas that no edge has a call on."""
        edges = list(self.idle.values())
        return tuple(replica for replica in edges[0] if all(replica in other for other in edges[1:])) if edges else ()

    def explained(self) -> Scaling:
        """Return what was decided and why."""
        return Scaling(
            settings=self.settings,
            latest=self.latest,
            changes=tuple(reversed(self.changes)),
            learnt=self._learnt(),
            trouble=self.trouble,
        )

    def _learnt(self) -> str:
        """Say in one line what its idle times taught."""
        if self.decider is None or self.decider.keep_alive is None:
            return ""
        plan = self.decider.keep_alive.plan(self.settings.zero_after_s)
        gone = f"idle, it goes to zero after {format_duration(plan.keep_s)}"
        if plan.prewarm_after_s < inf:
            gone += f" and is back from {format_duration(plan.prewarm_after_s)} to {format_duration(plan.until_s)}"
        return f"{plan.reason}; {gone}"

    def becomes(self, revision: str, now: float) -> None:
        """The calls go to another revision: what was told of the old one's replicas is over."""
        self.revision = revision
        self.states.clear()
        self.idle.clear()
        self.written = None
        self.warm_for = -inf
        if self.decider is not None:
            self.decider.moved(now)

    def replica_changed(self, replica: Replica) -> None:
        """Follow a replica of the revision; how long starts take is learnt from it."""
        before = self.states.pop(replica.id, None)
        if replica.state is not ReplicaState.STOPPED:
            self.states[replica.id] = replica.state
        started = before is ReplicaState.PENDING and replica.state is ReplicaState.RUNNING
        if started and self.decider is not None and replica.started_at is not None and replica.ready_at is not None:
            self.decider.lead.started(replica.ready_at - replica.started_at)


class Followed:
    """One function: its `revisions` that calls can come to, by name, of which `main` gets most. `placed` is the generation and
    the table of traffic that were told of last: with another one, counts were set by the orchestrator."""

    __slots__ = ("main", "placed", "revisions", "settings")

    def __init__(self, settings: ScaleSettings) -> None:
        self.settings = settings
        self.revisions: dict[str, Watched] = {}
        self.main: Watched | None = None
        self.placed: tuple[int, Table] | None = None


def settings_of(settings: ScaleSettings, function: Function, revision: str) -> ScaleSettings:
    """Return what holds for a revision: of a function that is pinned it has its part, and one that has only a tag, and no share
    of the calls, may fall to zero."""
    if share_of(function.traffic, revision):
        if function.pinned is None:
            return settings
        part = parts_of(function.traffic, function.pinned)[revision]
        return msgspec.structs.replace(settings, min_replicas=part, max_replicas=max(1, part))
    return msgspec.structs.replace(settings, min_replicas=0, zero=True, learns=False, schedule=(), initial_replicas=0)
