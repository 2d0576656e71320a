"""The engine: one function's calls, replicas and decisions in the order of time.

Five things happen: a call ends, a replica becomes ready, a call comes, a waiting call gives up, the clock asks (each second
while there is activity, and when the policy wanted to be asked again). At one moment they happen in that order; what the edge
has to tell about the moment is told when all of it has happened, as one turn of the real loop tells a burst.

Between a decision and its effect lies nothing but the start of a replica: its start time, drawn from a distribution, goes
from the decision to the first call that it can take.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import ceil, inf
from time import process_time
from typing import Final, Protocol

import msgspec

from autoscaler.simulator.distribution import Distribution
from autoscaler.simulator.edge import SWEEP_S, TICK_S, EdgeModel, Replica
from autoscaler.simulator.measures import Measures
from autoscaler.simulator.trace import TIMER, Trace, Workload, random_for
from orchestration.load import LoadSample

QUEUE_CALLS: Final = 10_000
QUEUE_TIMEOUT_S: Final = 60.0
"""The edge's own defaults."""
SOONEST_S: Final = 0.001
"""A policy that wants to decide again gets time to pass: a deadline that rounding missed is not asked for ever."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around the decider. `start` is from the decision to a replica that takes calls; `limit` calls per replica
    at a time (0: none); a call waits at most `queue_timeout_s`, and `queue_calls` of them; a replica that was let go holds
    its memory `linger_s` longer; `knows_timers`: the platform makes the calls of timers itself, and so tells the policy when
    the next one is due.
    """

    start: Distribution
    limit: int = 100
    queue_calls: int = QUEUE_CALLS
    queue_timeout_s: float = QUEUE_TIMEOUT_S
    linger_s: float = 0.0
    knows_timers: bool = False
    lead_s: float = 1.0
    """How long before a timer's call a replica should be there."""


class Controller(Protocol):
    """A policy at work on one function. Times are seconds since the trace's start."""

    @property
    def initial(self) -> int:
        """How many replicas there are asked for at the beginning."""

    @property
    def look_at(self) -> float:
        """When it wants to decide though nothing happens; inf: never."""

    def observe(self, sample: LoadSample, now: float) -> bool:
        """Take a sample; returns whether to decide now."""

    def replicas_changed(self) -> bool:
        """A replica became ready, or is gone; returns whether to decide now."""

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        """Return how many replicas to have."""

    def expect(self, at: float, lead_s: float) -> None:
        """A call is due at `at`: a replica should be there `lead_s` before."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a call that came at `came`: `waited_s` before it ran or left; `word` is served, dropped or expired."""

    came: float
    waited_s: float
    runs_s: float
    word: str
    cold: bool = False


class Engine:
    """Runs one workload under one controller. `watch` gets each call's outcome, `record` each sample."""

    def __init__(
        self,
        workload: Workload,
        controller: Controller,
        model: Model,
        trace: Trace,
        seed: int,
        *,
        watch: Callable[[Outcome], None] | None = None,
        record: Callable[[LoadSample], None] | None = None,
    ) -> None:
        self.measures = Measures(trace.length_s)
        self._controller = controller
        self._model = model
        self._memory_mib = workload.memory_mib
        self._source = workload.source(seed)
        self._expects = model.knows_timers and workload.trigger == TIMER
        self._random = random_for(seed, workload.function, "start")
        self._edge = EdgeModel(workload.function, model.limit, model.queue_calls, 0.0)
        self._watch, self._record = watch, record
        self._starting: list[tuple[float, int, Replica]] = []
        self._running: list[tuple[float, int, Replica, bool]] = []
        self._wanted = 0
        self._held = 0
        self._held_since = 0.0
        self._made = 0
        self._runs = 0
        self._tick_at = self._sweep_at = self._look_at = inf
        self._changed = False

    def run(self) -> Measures:
        """Run to the end of the last call, and of the time that is counted."""
        began = process_time()
        self._wanted = self._controller.initial
        self._scale(0.0)
        self._expect_next()
        self._decide(0.0)
        end = self.measures.timeline.length_s
        while (now := self._next()) < inf:
            if now >= end and not self._edge.level and self._source.next_at == inf:
                break
            self._happen(now)
        self._hold(end)
        self.measures.spent_s = process_time() - began
        return self.measures

    def _next(self) -> float:
        """Return when something happens next."""
        edge = self._edge
        now = self._source.next_at
        if self._running and self._running[0][0] < now:
            now = self._running[0][0]
        if self._starting and self._starting[0][0] < now:
            now = self._starting[0][0]
        if self._tick_at < now:
            now = self._tick_at
        if self._sweep_at < now:
            now = self._sweep_at
        if self._look_at < now:
            now = self._look_at
        if edge.waiting and edge.waiting[0][0] + self._model.queue_timeout_s < now:
            now = edge.waiting[0][0] + self._model.queue_timeout_s
        return now

    def _happen(self, now: float) -> None:
        """Let everything happen that is due at `now`."""
        edge, source = self._edge, self._source
        while True:
            if self._running and self._running[0][0] <= now:
                self._end(now)
            elif self._starting and self._starting[0][0] <= now:
                edge.opened(heapq.heappop(self._starting)[2])
                self._changed = True
            elif source.next_at <= now:
                self._arrive(now)
            elif edge.waiting and edge.waiting[0][0] + self._model.queue_timeout_s <= now:
                self._expire(now)
            else:
                break
            if edge.started:
                self._start_calls(now)
        if edge.telling:
            self._tell(edge.tell(now), now)
        if edge.waiting and (self._sweep_at <= now or self._tick_at <= now):
            self._tell(edge.tell(now), now)
        if self._tick_at <= now:
            self._tick_at = now + TICK_S
            self._tell(edge.tick(now), now)
        if not edge.active:
            self._tick_at = inf
        elif self._tick_at == inf:
            self._tick_at = now + TICK_S
        self._sweep_at = self._sweep_after(now) if edge.waiting else inf
        if self._changed:
            self._changed = False
            if self._controller.replicas_changed():
                self._decide(now)
        if self._look_at <= now:
            self._decide(now)

    def _sweep_after(self, now: float) -> float:
        """Return when calls that still wait are told of next: each second has four such moments, its end is the last."""
        more = ceil((self._tick_at - now) / SWEEP_S - SOONEST_S) - 1
        return self._tick_at - more * SWEEP_S

    def _arrive(self, now: float) -> None:
        measures, source = self.measures, self._source
        came = source.next_at
        runs_s = source.take()
        measures.calls += 1
        measures.timeline.calls[measures.timeline.bin(came)] += 1
        if not self._edge.admit(now, runs_s):
            measures.dropped += 1
            source.ended(now, served=False)
            if self._watch is not None:
                self._watch(Outcome(now, 0.0, runs_s, "dropped"))
        self._expect_next()

    def _expect_next(self) -> None:
        if self._expects and self._source.next_at < inf:
            self._controller.expect(self._source.next_at, self._model.lead_s)

    def _start_calls(self, now: float) -> None:
        measures = self.measures
        for came, runs_s, replica in self._edge.started:
            wait_s = now - came
            measures.waits.add(wait_s)
            measures.busy_s += runs_s
            cold = wait_s > 0 and replica.ready_at > came
            if cold:
                measures.cold += 1
                measures.timeline.cold[measures.timeline.bin(came)] += 1
            if self._watch is not None:
                self._watch(Outcome(came, wait_s, runs_s, "served", cold))
            self._runs += 1
            heapq.heappush(self._running, (now + runs_s, self._runs, replica, cold))
        self._edge.started.clear()

    def _end(self, now: float) -> None:
        replica = heapq.heappop(self._running)[2]
        self._edge.released(replica, now)
        self.measures.served += 1
        self._source.ended(now, served=True)
        if replica.draining and not replica.in_flight:
            self._gone(replica, now)

    def _expire(self, now: float) -> None:
        came, runs_s = self._edge.waiting[0]
        self._edge.expire(now)
        self.measures.expired += 1
        self._source.ended(now, served=False)
        if self._watch is not None:
            self._watch(Outcome(came, now - came, runs_s, "expired"))

    # decisions

    def _tell(self, sample: LoadSample, now: float) -> None:
        if self._record is not None:
            self._record(sample)
        if self._controller.observe(sample, now):
            self._decide(now)
        else:
            self._look_at = self._controller.look_at

    def _decide(self, now: float) -> None:
        self.measures.decisions += 1
        ready, starting = len(self._edge.ready), len(self._starting)
        count = self._controller.decide(now, wanted=self._wanted, ready=ready, starting=starting)
        if count != self._wanted:
            self.measures.writes += 1
            self._wanted = count
            self._scale(now)
        self._look_at = max(self._controller.look_at, now + SOONEST_S)

    def _scale(self, now: float) -> None:
        """Have as many replicas as are wanted: start some, or let the least useful ones go."""
        there = len(self._edge.ready) + len(self._starting)
        for _ in range(self._wanted - there):
            self._hold(now)
            self._held += 1
            self._made += 1
            replica = Replica(str(self._made), now, now + self._model.start.draw(self._random))
            heapq.heappush(self._starting, (replica.ready_at, self._made, replica))
        self.measures.started += max(0, self._wanted - there)
        self.measures.largest = max(self.measures.largest, self._held)
        if there > self._wanted:
            for replica in self._victims(there - self._wanted):
                self._edge.shut(replica)
                if not replica.in_flight:
                    self._gone(replica, now)

    def _victims(self, count: int) -> list[Replica]:
        """Idle ones first, then those that start, then the newest: the order in which the local orchestrator takes them."""
        ready = self._edge.ready
        idle = sorted((r for r in ready if not r.in_flight), key=_newest)[:count]
        starting = sorted((r for _, _, r in self._starting), key=_newest)[: count - len(idle)]
        busy = sorted((r for r in ready if r.in_flight), key=_newest)[: count - len(idle) - len(starting)]
        if starting:
            self._starting = [entry for entry in self._starting if entry[2] not in starting]
            heapq.heapify(self._starting)
        return [*idle, *starting, *busy]

    # what is held

    def _gone(self, replica: Replica, now: float) -> None:
        self._changed = True
        self._hold(now)
        self._held -= 1
        self._account(1, now, now + self._model.linger_s)

    def _hold(self, now: float) -> None:
        """Account for the replicas there have been since the last change."""
        self._account(self._held, self._held_since, now)
        self._held_since = now

    def _account(self, replicas: int, since: float, until: float) -> None:
        seconds = self.measures.timeline.hold(replicas, since, until)
        self.measures.replica_s += seconds
        self.measures.memory_mib_s += seconds * self._memory_mib


def _newest(replica: Replica) -> float:
    return -replica.since
