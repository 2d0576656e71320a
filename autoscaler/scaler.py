"""The loop around the deciders: takes load as edges push it, writes replica counts through the orchestrator.

The unit of work is one revision that calls can come to, by its share or by a tag, and to which something happened: a sample
came, it changed, one of its replicas did, or the time came at which its decider wanted to be asked. It is then decided upon in
the next turn of the loop, once, however much happened. Revisions to which nothing happens cost one time in `alarms` at most;
nothing is polled. For each revision at most one write is under way; what happens meanwhile is looked at when it returns, and a
write that the orchestrator refuses is tried again with growing pauses (0.1 s doubling to 10 s). Nothing that it asked for holds
a place among the starts meanwhile.
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

from autoscaler.alarm_clock import AlarmClock
from autoscaler.decider import Decider
from autoscaler.history import History
from autoscaler.keep_alive import KeepAlive
from autoscaler.recording import Recording
from autoscaler.starts import StartLimits, Starts
from autoscaler.warmth import AHEAD_S, Warmth
from autoscaler.watched import FIRST_RETRY_S, Followed, RevisionKey, Watched, settings_of
from orchestration.decisions import Decision, Rule, Scaling, ScalingFigures
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.replica import Replica
from orchestration.scaling import ScaleSettings
from orchestration.scaling_labels import scale_settings
from orchestration.settings import InvalidSetting

log = logging.getLogger("pinnace.autoscaler")

LONGEST_RETRY_S = 10.0
WRITE_WITHIN_S = 30.0
"""A write that takes longer has failed: what it waits for may never come, and meanwhile nobody decides on its function."""
CHANGES_KEPT: Final = 20


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
        self._functions: dict[FunctionId, Followed] = {}
        self._watched: dict[RevisionKey, Watched] = {}
        self._settings: WeakKeyDictionary[ScaleSettings, ref[ScaleSettings]] = WeakKeyDictionary()
        self._starts: Starts[RevisionKey] = Starts(limits or StartLimits())
        self._alarms: AlarmClock[RevisionKey] = AlarmClock(clock, self.ring)
        self._warmth = Warmth(orchestrator)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._alarms.close()
        tasks = [w.writing for w in self._watched.values() if w.writing is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._warmth.close()

    # what it is told

    def apply(self, event: Event) -> None:
        """Take what `Orchestrator.watch` yields."""
        match event:
            case FunctionChanged(function):
                self._function_changed(function)
            case FunctionRemoved(namespace, name):
                self._function_removed(FunctionId(namespace, name))
            case ReplicaChanged(replica):
                self._replica_changed(replica)

    def sample(self, sample: LoadSample) -> None:
        """Take an edge's sample; a call that waits at zero is acted on in the next turn of the loop."""
        watched = self._watched.get((sample.namespace, sample.revision))
        if watched is None or watched.decider is None:
            return
        watched.idle[sample.edge] = sample.idle_replicas
        watched.decider.observe(sample, self._clock())
        if not watched.main:  # what is replayed is the whole function's load: the parts add up, as those of several edges
            sample = msgspec.structs.replace(sample, edge=f"{sample.edge} {sample.revision}")
        self.recording.sample(sample)
        self._touch(watched)

    def measured(self, function: FunctionId, value: float | None, trouble: str = "") -> None:
        """Take a metric that is measured, over all replicas; None and `trouble` where it cannot be known.

        Of several revisions each is taken to have the part that its ready replicas are.
        """
        revisions = self._revisions(function)
        ready = sum(watched.ready for watched in revisions)
        for watched in revisions:
            watched.trouble = trouble
            if value is not None and watched.decider is not None:
                part = watched.ready / ready if ready else float(watched.main)
                watched.decider.measured(value * part, self._clock())
            self._touch(watched)

    def expect(self, function: FunctionId, at: float) -> None:
        """A call of the platform's own (a timer's) is due at `at`, Unix seconds: it is to find a replica."""
        watched = self._main(function)
        if watched is not None and watched.decider is not None:
            watched.decider.expect(self._clock() + at - self._wall())
            self._alarms.set(watched.key, watched.decider.look_at - AHEAD_S)

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

    def ring(self) -> None:
        """Look at every revision whose time has come."""
        for key in self._alarms.due():
            if watched := self._watched.get(key):
                self._touch(watched)

    # what it tells

    def explain(self, function: FunctionId) -> Scaling | None:
        """Return what was decided for a function and why; None for one that is not known."""
        watched = self._main(function)
        return watched.explained() if watched is not None else None

    def watched(self) -> list[tuple[FunctionId, ScaleSettings, int]]:
        """Return each function with its settings and how many of its replicas are ready."""
        return [
            (function, followed.settings, sum(watched.ready for watched in followed.revisions.values()))
            for function, followed in self._functions.items()
        ]

    def figures(self) -> list[ScalingFigures]:
        """Return what is counted of each function's scaling."""
        mains = [followed.main for followed in self._functions.values() if followed.main is not None]
        return [
            ScalingFigures(w.function, w.settings, w.latest is not None and w.latest.rule is Rule.MAX, w.decided) for w in mains
        ]

    # functions come, change and go

    def _function_changed(self, function: Function) -> None:
        try:
            settings = scale_settings(function.spec)
        except InvalidSetting as error:  # of an earlier version of the platform; a deploy is checked
            log.error("%s: %s; the defaults hold", function.id, error)
            settings = ScaleSettings()
        settings = self._settings.setdefault(settings, ref(settings))() or settings  # most say the same: one object for all
        followed = self._functions.get(function.id)
        if followed is None:
            followed = self._functions[function.id] = Followed(settings)
        followed.settings = settings
        self._follow_traffic(followed, function)
        placed = (function.generation, function.traffic)
        for watched in followed.revisions.values():
            if followed.placed != placed:
                watched.written = None  # a deploy sets counts too, and so does what moves calls
            self._configure(watched, settings_of(settings, function, watched.revision), function)
            self._touch(watched)
        followed.placed = placed

    def _follow_traffic(self, followed: Followed, function: Function) -> None:
        """Watch the revisions that calls can come to, and no others."""
        routed, main = {target.revision for target in function.traffic}, function.serving.name
        before = followed.main
        if before is not None and before.revision != main and main not in followed.revisions:
            self._unwatch(before)
            del followed.revisions[before.revision]
            before.becomes(main, self._clock())
            self._watch(followed, before, function)
        elif before is not None and before.revision != main:
            following = followed.revisions[main]
            if following.decider is not None and before.decider is not None:
                following.decider.succeeds(before.decider)
        for watched in [w for name, w in followed.revisions.items() if name not in routed]:
            self._drop(watched)
            del followed.revisions[watched.revision]
        for name in sorted(routed - followed.revisions.keys()):
            self._watch(followed, Watched(function.id, name, followed.settings), function)
        for name, watched in followed.revisions.items():
            watched.main = name == main
        followed.main = followed.revisions[main]

    def _watch(self, followed: Followed, watched: Watched, function: Function) -> None:
        followed.revisions[watched.revision] = self._watched[watched.key] = watched
        try:
            instances = self._orchestrator.status(function.id).instances
        except NotFound:
            return
        for replica in instances:
            if replica.revision == watched.revision:
                watched.states[replica.id] = replica.state

    def _configure(self, watched: Watched, settings: ScaleSettings, function: Function) -> None:
        watched.settings = settings
        capacity = next(r for r in function.revisions if r.name == watched.revision).settings.concurrency
        if watched.decider is None:
            kept = self._history is not None and watched.main
            learn = partial(self._history.keep_alive, function.id) if self._history is not None and kept else KeepAlive
            watched.decider = Decider(settings, capacity, self._clock(), replicas=self._wanted(watched) or 0, learn=learn)
        else:
            watched.decider.configure(settings, capacity)

    def _replica_changed(self, replica: Replica) -> None:
        watched = self._watched.get((replica.namespace, replica.revision))
        if watched is not None:
            watched.replica_changed(replica)
            self._touch(watched)

    def _function_removed(self, function: FunctionId) -> None:
        followed = self._functions.pop(function, None)
        self.recording.forget(function)
        for watched in followed.revisions.values() if followed is not None else ():
            self._drop(watched)
        if followed is not None and self._history is not None:
            self._history.forget(function)

    def _drop(self, watched: Watched) -> None:
        """No call comes to the revision any more: nothing is decided for it."""
        if watched.writing is not None:
            watched.writing.cancel()
        self._unwatch(watched)

    def _unwatch(self, watched: Watched) -> None:
        if self._watched.get(watched.key) is watched:
            del self._watched[watched.key]
        self._alarms.forget(watched.key)
        self._starts.forget(watched.key)
        self._start_next()

    def _main(self, function: FunctionId) -> Watched | None:
        followed = self._functions.get(function)
        return followed.main if followed is not None else None

    def _revisions(self, function: FunctionId) -> list[Watched]:
        followed = self._functions.get(function)
        return list(followed.revisions.values()) if followed is not None else []

    # deciding

    def _touch(self, watched: Watched) -> None:
        if not watched.touched and not self._closed:
            watched.touched = True
            asyncio.get_running_loop().call_soon(self._settle, watched)

    def _settle(self, watched: Watched) -> None:
        watched.touched = False
        if self._closed or self._watched.get(watched.key) is not watched:
            return
        if watched.writing is not None:
            watched.again = True
            return
        try:
            self._decide(watched)
        except Exception:
            log.exception("%s: cannot decide; its replicas stay", watched.function)
            self._starts.served(watched.key)
            self._start_next()

    def _wanted(self, watched: Watched) -> int | None:
        try:
            status = self._orchestrator.status(watched.function)
        except NotFound:
            return None
        return status.wanted.get(watched.revision, status.replicas if watched.main else 0)

    def _decide(self, watched: Watched) -> None:
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
        self._starts.set(watched.key, starting)
        decision = decider.decide(now, self._wall(), wanted=wanted, ready=ready, starting=starting)
        if decision.replicas > wanted:
            decision = self._within_starts(watched, decision)
        else:
            self._starts.served(watched.key)
        self._start_next()
        watched.latest = decision
        self._alarms.set(watched.key, decider.look_at)
        if decision.replicas:
            watched.warm_for = -inf
        elif self._leads:
            self._alarms.set(watched.key, self._warmth.at_zero(watched, now, decider.due_at, decision.idle_s))
        if decision.replicas != wanted and self._leads:
            watched.changes = (*watched.changes[-CHANGES_KEPT + 1 :], decision)
            watched.decided[decision.rule] = watched.decided.get(decision.rule, 0) + 1
            log.info("%s: %s", watched.function, decision.reason)
            self._starts.set(watched.key, max(0, decision.replicas - ready - watched.failing))
            watched.written = decision.replicas
            watched.writing = asyncio.ensure_future(self._write(watched, decision, starting))

    def _within_starts(self, watched: Watched, decision: Decision) -> Decision:
        """Return the decision with no more new replicas than may start now; the rest waits for its turn."""
        room = self._starts.room(watched.key)
        if decision.replicas - decision.previous <= room:
            self._starts.served(watched.key)
            return decision
        self._starts.wait(watched.key)
        replicas = decision.previous + room
        limits = self._starts.limits
        most = f"at most {limits.per_function} of a function and {limits.total} in all"
        why = f"{self._starts.total} start already, {most}: {replicas} for now"
        return msgspec.structs.replace(decision, replicas=replicas, rule=Rule.STARTS, reason=f"{decision.reason}; {why}")

    def _start_next(self) -> None:
        key = self._starts.next()
        if key is not None and (watched := self._watched.get(key)) is not None:
            self._touch(watched)

    async def _write(self, watched: Watched, decision: Decision, starting: int) -> None:
        """Write the decision; `starting` is how many were starting before it."""
        key = watched.key
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

    def _give_back(self, watched: Watched, starting: int) -> None:
        """Hold no places for what was not started: others may have them, and go first."""
        if self._watched.get(watched.key) is watched:
            self._starts.set(watched.key, starting)
            self._starts.served(watched.key)
            self._start_next()
