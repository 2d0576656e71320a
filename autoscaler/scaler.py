"""The loop around the decider: takes load as edges push it, writes replica counts through the orchestrator.

The unit of work is one function that something happened to: a sample came, it changed, one of its replicas did, or the time
came at which its decider wanted to be asked. It is then decided upon in the next turn of the loop, once, however much
happened. Functions to which nothing happens cost one time in `alarms` at most; nothing is polled. For each function
at most one write is under way; what happens meanwhile is looked at when it returns, and a write that the orchestrator refuses
is tried again with growing pauses (0.1 s doubling to 10 s). Nothing that it asked for holds a place among the starts meanwhile.

What decides is the revision that gets the largest share of the calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from math import inf
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary, ref

import msgspec

from autoscaler.alarms import Alarms
from autoscaler.decider import Decider
from autoscaler.history import History
from autoscaler.keep_alive import KeepAlive
from autoscaler.recording import Recording
from autoscaler.starts import StartLimits, Starts
from orchestration.decisions import Decision, Rule, Scaling, ScalingFigures
from orchestration.duration import format_duration
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.replica import Replica, ReplicaState
from orchestration.scaling import ScaleSettings
from orchestration.scaling_labels import scale_settings
from orchestration.settings import InvalidSetting

log = logging.getLogger("pinnace.autoscaler")

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 10.0
WRITE_WITHIN_S = 30.0
"""A write that takes longer has failed: what it waits for may never come, and meanwhile nobody decides on its function."""
CHANGES_KEPT: Final = 20


class _Watched:
    """What is known of one function. `idle` maps an edge to its replicas without calls, `states` the serving revision's
    replicas to where they are; `written` is the count that was last asked for (None: not known)."""

    __slots__ = (
        "again",
        "changes",
        "decided",
        "decider",
        "function",
        "generation",
        "idle",
        "latest",
        "retry_s",
        "revision",
        "settings",
        "states",
        "touched",
        "trouble",
        "writing",
        "written",
    )

    def __init__(self, function: Function, settings: ScaleSettings) -> None:
        self.function = function.id
        self.generation = function.generation
        self.revision = function.serving.name
        self.settings = settings
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

    @property
    def ready(self) -> int:
        return sum(state is ReplicaState.RUNNING for state in self.states.values())

    @property
    def failing(self) -> int:
        return sum(state is ReplicaState.CRASH_LOOP for state in self.states.values())

    def idle_replicas(self) -> tuple[str, ...]:
        """Replicas that no edge has a call on."""
        edges = list(self.idle.values())
        return tuple(replica for replica in edges[0] if all(replica in other for other in edges[1:])) if edges else ()


class Scaler:
    """Owns every decision about replica counts. Leaving the context ends its tasks; counts stay as they are.

    `clock` gives monotonic seconds, `wall` Unix seconds; `history` keeps what is learnt of idle times. Only who `leads`
    writes: of several, the others follow the load so that they can take over at once.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        *,
        limits: StartLimits | None = None,
        history: History | None = None,
        leads: bool = True,
    ) -> None:
        self._orchestrator = orchestrator
        self._clock = clock
        self._wall = wall
        self.recording = Recording(wall)
        self._leads = leads
        self._history = history
        self._watched: dict[FunctionId, _Watched] = {}
        self._settings: WeakKeyDictionary[ScaleSettings, ref[ScaleSettings]] = WeakKeyDictionary()
        self._starts: Starts[FunctionId] = Starts(limits or StartLimits())
        self._alarms: Alarms[FunctionId] = Alarms()
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = [w.writing for w in self._watched.values() if w.writing is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # what it is told

    def apply(self, event: Event) -> None:
        """Take what `Orchestrator.watch` yields."""
        match event:
            case FunctionChanged(function):
                self._function_changed(function)
            case FunctionRemoved(namespace, name):
                self._forget(FunctionId(namespace, name))
            case ReplicaChanged(replica):
                self._replica_changed(replica)

    def sample(self, sample: LoadSample) -> None:
        """Take an edge's sample; a call that waits at zero is acted on in the next turn of the loop."""
        watched = self._watched.get(FunctionId(sample.namespace, sample.function))
        if watched is None or watched.decider is None or watched.revision != sample.revision:
            return
        watched.idle[sample.edge] = sample.idle_replicas
        watched.decider.observe(sample, self._clock())
        self.recording.sample(sample)
        self._touch(watched)

    def measured(self, function: FunctionId, value: float | None, trouble: str = "") -> None:
        """Take a metric that is measured, over all replicas; None and `trouble` where it cannot be known."""
        watched = self._watched.get(function)
        if watched is not None and watched.decider is not None:
            watched.trouble = trouble
            if value is not None:
                watched.decider.measured(value, self._clock())
            self._touch(watched)

    def expect(self, function: FunctionId, at: float) -> None:
        """A call of the platform's own (a timer's) is due at `at`, Unix seconds: it is to find a replica."""
        watched = self._watched.get(function)
        if watched is not None and watched.decider is not None:
            watched.decider.expect(self._clock() + at - self._wall())
            self._wake_at(function, watched.decider.look_at)

    def forget_edge(self, edge: str) -> None:
        """Drop what an edge that is gone had reported; its calls ended with it."""
        for watched in self._watched.values():
            watched.idle.pop(edge, None)
            if watched.decider is not None and watched.decider.forget_edge(edge):
                self._touch(watched)

    def lead(self, leads: bool) -> None:
        """Begin or cease to write."""
        self._leads = leads
        if leads:
            for watched in self._watched.values():
                watched.written = None  # whoever led until now wrote the last count, not a user
                self._touch(watched)

    def explain(self, function: FunctionId) -> Scaling | None:
        """Return what was decided for a function and why; None for one that is not known."""
        watched = self._watched.get(function)
        if watched is None:
            return None
        return Scaling(
            settings=watched.settings,
            latest=watched.latest,
            changes=tuple(reversed(watched.changes)),
            learnt=self._learnt(watched),
            trouble=watched.trouble,
        )

    @staticmethod
    def _learnt(watched: _Watched) -> str:
        decider = watched.decider
        if decider is None or decider.keep_alive is None:
            return ""
        plan = decider.keep_alive.plan(watched.settings.zero_after_s)
        gone = f"idle, it goes to zero after {format_duration(plan.keep_s)}"
        if plan.prewarm_after_s < inf:
            gone += f" and is back from {format_duration(plan.prewarm_after_s)} to {format_duration(plan.until_s)}"
        return f"{plan.reason}; {gone}"

    def watched(self) -> list[tuple[FunctionId, ScaleSettings, int]]:
        """Return each function with its settings and how many of its replicas are ready."""
        return [(w.function, w.settings, w.ready) for w in self._watched.values()]

    def figures(self) -> list[ScalingFigures]:
        """Return what is counted of each function's scaling."""
        return [
            ScalingFigures(w.function, w.settings, w.latest is not None and w.latest.rule is Rule.MAX, w.decided)
            for w in self._watched.values()
        ]

    def _function_changed(self, function: Function) -> None:
        try:
            settings = scale_settings(function.spec)
        except InvalidSetting as error:  # of an earlier version of the platform; a deploy is checked
            log.error("%s: %s; the defaults hold", function.id, error)
            settings = ScaleSettings()
        settings = self._settings.setdefault(settings, ref(settings))() or settings  # most say the same: one object for all
        watched = self._watched.get(function.id)
        if watched is None:
            watched = self._watched[function.id] = _Watched(function, settings)
        if watched.generation != function.generation or watched.revision != function.serving.name:
            watched.written = None  # a deploy sets counts too
        if watched.revision != function.serving.name:
            watched.states.clear()
            watched.idle.clear()
            self._count_replicas(watched, function)
            if watched.decider is not None:
                watched.decider.moved(self._clock())
        watched.generation, watched.revision, watched.settings = function.generation, function.serving.name, settings
        capacity = function.serving.settings.concurrency
        if watched.decider is None:
            learn = KeepAlive if self._history is None else partial(self._history.keep_alive, function.id)
            watched.decider = Decider(settings, capacity, self._clock(), replicas=self._wanted(watched) or 0, learn=learn)
        else:
            watched.decider.configure(settings, capacity)
        self._touch(watched)

    def _count_replicas(self, watched: _Watched, function: Function) -> None:
        try:
            instances = self._orchestrator.status(watched.function).instances
        except NotFound:
            return
        for replica in instances:
            if replica.revision == function.serving.name:
                watched.states[replica.id] = replica.state

    def _replica_changed(self, replica: Replica) -> None:
        watched = self._watched.get(FunctionId(replica.namespace, replica.function))
        if watched is None or replica.revision != watched.revision:
            return
        before = watched.states.pop(replica.id, None)
        if replica.state is not ReplicaState.STOPPED:
            watched.states[replica.id] = replica.state
        started = before is ReplicaState.PENDING and replica.state is ReplicaState.RUNNING
        if started and watched.decider is not None and replica.started_at is not None and replica.ready_at is not None:
            watched.decider.lead.started(replica.ready_at - replica.started_at)
        self._touch(watched)

    def _forget(self, function: FunctionId) -> None:
        watched = self._watched.pop(function, None)
        self.recording.forget(function)
        self._alarms.forget(function)
        if watched is not None:
            if watched.writing is not None:
                watched.writing.cancel()
            self._starts.forget(function)
            self._start_next()
            if self._history is not None:
                self._history.forget(function)

    # deciding

    def _touch(self, watched: _Watched) -> None:
        if not watched.touched and not self._closed:
            watched.touched = True
            asyncio.get_running_loop().call_soon(self._settle, watched)

    def _settle(self, watched: _Watched) -> None:
        watched.touched = False
        if self._closed or self._watched.get(watched.function) is not watched:
            return
        if watched.writing is not None:
            watched.again = True
            return
        try:
            self._decide(watched)
        except Exception:
            log.exception("%s: cannot decide; its replicas stay", watched.function)
            self._starts.served(watched.function)
            self._start_next()

    def _wanted(self, watched: _Watched) -> int | None:
        try:
            return self._orchestrator.status(watched.function).replicas
        except NotFound:
            return None

    def _decide(self, watched: _Watched) -> None:
        wanted = self._wanted(watched)
        if wanted is None or watched.decider is None:
            return
        decider, now = watched.decider, self._clock()
        if watched.written is not None and watched.written != wanted:
            if self._leads:
                decider.overruled(now, wanted)
            else:  # by who leads, as far as is known
                decider.followed(wanted)
        watched.written = wanted
        ready = watched.ready
        starting = max(0, wanted - ready - watched.failing)
        self._starts.set(watched.function, starting)
        decision = decider.decide(now, self._wall(), wanted=wanted, ready=ready, starting=starting)
        if decision.replicas > wanted:
            decision = self._within_starts(watched, decision)
        else:
            self._starts.served(watched.function)
        self._start_next()
        watched.latest = decision
        self._wake_at(watched.function, decider.look_at)
        if decision.replicas != wanted and self._leads:
            watched.changes = (*watched.changes[-CHANGES_KEPT + 1 :], decision)
            watched.decided[decision.rule] = watched.decided.get(decision.rule, 0) + 1
            log.info("%s: %s", watched.function, decision.reason)
            self._starts.set(watched.function, max(0, decision.replicas - ready - watched.failing))
            watched.written = decision.replicas
            watched.writing = asyncio.ensure_future(self._write(watched, decision, starting))

    def _within_starts(self, watched: _Watched, decision: Decision) -> Decision:
        """Return the decision with no more new replicas than may start now; the rest waits for its turn."""
        room = self._starts.room(watched.function)
        if decision.replicas - decision.previous <= room:
            self._starts.served(watched.function)
            return decision
        self._starts.wait(watched.function)
        replicas = decision.previous + room
        limits = self._starts.limits
        most = f"at most {limits.per_function} of a function and {limits.total} in all"
        why = f"{self._starts.total} start already, {most}: {replicas} for now"
        return msgspec.structs.replace(decision, replicas=replicas, rule=Rule.STARTS, reason=f"{decision.reason}; {why}")

    def _start_next(self) -> None:
        function = self._starts.next()
        if function is not None and (watched := self._watched.get(function)) is not None:
            self._touch(watched)

    async def _write(self, watched: _Watched, decision: Decision, starting: int) -> None:
        """Write the decision; `starting` is how many were starting before it."""
        key = (watched.function.namespace, watched.revision)
        victims = watched.idle_replicas() if decision.replicas < decision.previous else ()
        try:
            async with asyncio.timeout(WRITE_WITHIN_S):
                await self._orchestrator.scale(key, decision.replicas, victims=victims)
            watched.retry_s = FIRST_RETRY_S
        except NotFound:  # the function or its revision is gone, and that is told of; nobody set another count
            watched.written = None
            self._give_back(watched, starting)
        except Exception:
            log.exception("%s: cannot scale to %d, again in %.1f s", watched.function, decision.replicas, watched.retry_s)
            watched.written = None
            self._give_back(watched, starting)
            await asyncio.sleep(watched.retry_s)
            watched.retry_s = min(watched.retry_s * 2, LONGEST_RETRY_S)
            watched.again = True
        finally:
            watched.writing = None
        if watched.again:
            watched.again = False
            self._touch(watched)

    def _give_back(self, watched: _Watched, starting: int) -> None:
        """Hold no places for what was not started: others may have them, and go first."""
        if self._watched.get(watched.function) is watched:
            self._starts.set(watched.function, starting)
            self._starts.served(watched.function)
            self._start_next()

    # time

    def _wake_at(self, function: FunctionId, at: float) -> None:
        first = self._alarms.first
        self._alarms.set(function, at)
        if self._alarms.first != first:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        first = self._alarms.first
        if first < inf and not self._closed:
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, first - self._clock()), self.ring)

    def ring(self) -> None:
        """Look at every function whose time has come."""
        for function in self._alarms.due(self._clock()):
            if watched := self._watched.get(function):
                self._touch(watched)
        self._set_alarm()
