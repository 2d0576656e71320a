"""How many replicas one revision should have: a function of clock, samples, settings and what was decided before.

Nothing here waits, reads a clock or knows where replicas run, so that the same decisions are made live, in the simulator
and in a replay. The rules in their order; each may change what the ones before it said:

1. The windows' averages ask for a count, as Knative's do (`recommendation`).
2. Calls that wait ask for more at once: ceil(calls / aim), when nothing is there to serve them, when they are twice what fits
   (the panic threshold), or when one has waited for a tenth of a second although everything that is ready or starting is full.
   Example: 100 calls at zero, a limit of 10 and an aim of 7 → 15 replicas in the first decision.
3. Calls in flight keep the replicas that they fill.
4. What is idle may fall to zero after the time that was set, or that was learnt; until then one is kept.
5. The floor: min, a schedule's, one for a call that is due, and the initial scale. The ceiling: max.
6. The count falls at most once in two seconds, so that a rate limit means what it means in Knative.

An idle revision costs no work: after a decision, `look_at` says when the next is needed though nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Final, NamedTuple

from autoscaler.keep_alive import KeepAlive, Plan
from autoscaler.lead_time import LeadTime
from autoscaler.observation import Observed
from autoscaler.recommendation import STEP_S, Recommender
from orchestration.decisions import Decision, Rule
from orchestration.duration import format_duration
from orchestration.load import LoadSample
from orchestration.scaling import UNITS, Metric, ScaleSettings
from orchestration.schedule import floor_at
from orchestration.settings import DEFAULT_CONCURRENCY

URGENT_WAIT_S: Final = 0.1
"""A call that has waited for so long, while all is full, is no flicker of the queue."""
DUE_GRACE_S: Final = 10.0
"""How long a replica that was started for a due call is kept when the call does not come."""
MOST_DUE: Final = 100
"""The nearest due calls are known; whoever makes them tells of the next one when one is over."""
WALL_TRUST_S: Final = 60.0
"""The wall clock may be set, and runs on while a suspended machine's steady clock stands: a schedule may be so late then."""
LEAST_IDLE_S: Final = 1.0
"""A shorter pause between calls says nothing about when a revision is wanted again."""

_FLOORS: Final = frozenset((Rule.MIN, Rule.KEPT, Rule.INITIAL, Rule.SCHEDULE, Rule.TIMER, Rule.LEARNT))


class _Kept(NamedTuple):
    """`replicas` that are kept `until` then whatever the load is, and why in words."""

    replicas: int
    until: float
    why: str


_NEVER: Final = -inf  # one object for all deciders, as what follows: an idle function is to be small
_NOTHING_KEPT: Final = _Kept(0, _NEVER, "")
_NO_FLOOR: Final = (0, "")


class Decider:
    """Decides for one revision whose replicas take at most `capacity` calls at a time (0: no limit).

    `now` is seconds of a steady clock, the same in all calls. `replicas` is how many there should be already: with more than
    one the platform was started again, and nothing is taken away for a stable window. `learn` gives what is known of the idle
    times; it is asked when the settings want them.
    """

    __slots__ = (
        "_capacity",
        "_due",
        "_fell_at",
        "_floor",
        "_floor_since",
        "_floor_until",
        "_held_until",
        "_initial",
        "_kept",
        "_learn",
        "_stopped",
        "due_at",
        "keep_alive",
        "lead",
        "look_at",
        "observed",
        "recommender",
        "settings",
    )

    def __init__(
        self,
        settings: ScaleSettings,
        capacity: int,
        now: float,
        *,
        replicas: int = 0,
        learn: Callable[[], KeepAlive] = KeepAlive,
    ) -> None:
        self.settings = settings
        self.observed = Observed(settings, now)
        self.recommender = Recommender(now, replicas)
        self.lead = LeadTime()
        self.keep_alive = learn() if settings.learns else None
        self.look_at = now
        self.due_at = inf
        self._learn = learn
        self._capacity = capacity
        self._initial = settings.initial_replicas if replicas >= settings.initial_replicas else 0
        self._stopped = replicas == 0 and not settings.zero
        self._fell_at = _NEVER
        self._due: tuple[tuple[float, float], ...] = ()
        self._held_until = _NEVER
        started = _Kept(replicas, now + settings.window_s, "the platform has just started")
        self._kept = started if replicas > 1 else _NOTHING_KEPT
        self._floor, self._floor_since, self._floor_until = _NO_FLOOR, inf, _NEVER

    def configure(self, settings: ScaleSettings, capacity: int) -> None:
        """Take other settings, as after a deploy; what was told of the load stays."""
        self._capacity = capacity
        if settings != self.settings:
            self.settings = settings
            self.observed.configure(settings)
            self.keep_alive = (self.keep_alive or self._learn()) if settings.learns else None
            self._floor_since, self._floor_until = inf, _NEVER

    def observe(self, sample: LoadSample, now: float) -> None:
        """Take what an edge tells."""
        idle_s = self.observed.sample(sample, now)
        if self.keep_alive is not None and idle_s is not None and idle_s >= LEAST_IDLE_S:
            self.keep_alive.idle(idle_s)

    def measured(self, value: float, now: float) -> None:
        """Take the metric's value over all replicas, where it is one that is measured (cpu, memory, custom)."""
        self.observed.measured(value, now)

    def forget_edge(self, edge: str) -> bool:
        """Drop what an edge that is gone had told. Returns whether there was something."""
        return self.observed.forget_edge(edge)

    def expect(self, at: float, lead_s: float | None = None) -> None:
        """A call is due at `at`: ask for a replica `lead_s` before it, by default as long as starts have taken."""
        since = at - (self.lead.lead_s if lead_s is None else lead_s)
        self._due = tuple(sorted((*self._due, (since, at + DUE_GRACE_S)))[:MOST_DUE])
        self.look_at = min(self.look_at, since)

    def moved(self, now: float) -> None:
        """Another revision gets the calls: what was told of the old one's is over, and its idle time begins anew."""
        self.observed.forget_calls()
        self.observed.last_active = now

    def succeeds(self, other: Decider) -> None:
        """Most of the function's calls go here now, not to `other`: what was learnt of its idle times goes along."""
        self._learn, other._learn = other._learn, KeepAlive
        self.keep_alive = self._learn() if self.settings.learns else None
        other.keep_alive = KeepAlive() if other.settings.learns else None

    def followed(self, replicas: int) -> None:
        """Who decides instead of this one set the count; at zero where the settings do not allow it, a user did."""
        self._stopped = replicas == 0 and not self.settings.zero

    def overruled(self, now: float, replicas: int) -> None:
        """Somebody else set the count: it holds for a stable window, zero until a call comes."""
        self.recommender.calm()
        self._stopped = replicas == 0
        self._initial = 0
        self._held_until = now + self.settings.window_s if replicas else _NEVER
        self._kept = _Kept(replicas, self._held_until, "set by hand")
        if replicas > 1:
            self.recommender.panic(now, replicas)
        elif replicas == 0:
            self.observed.forget_calls()

    def decide(self, now: float, wall: float, *, wanted: int, ready: int, starting: int) -> Decision:
        """Return how many replicas to have, and set `look_at`; `due_at` is when one will be asked for though no call comes.

        `wanted` is the count until now, `ready` and `starting` are replicas that get calls and that will; `wall` is Unix
        seconds, for schedules.
        """
        settings, observed = self.settings, self.observed
        averages = observed.averages(now)
        load, queued = observed.load, observed.queued
        idle_s = 0.0 if load else now - observed.last_active
        steps: list[str] = []
        count, rule = wanted, Rule.NO_DATA
        self.look_at = self.due_at = inf
        if wanted:
            self._stopped = False  # by a deploy, where not by a call

        if wanted == 0:
            count, rule = self._at_zero(now, averages, queued, steps)
        else:
            if averages is not None:
                count, rule = self._asked(now, averages, ready, steps)
            else:
                steps.append(f"{settings.metric} is not known → {wanted} kept")
            count, rule = self._backlog(now, count, rule, load, queued, ready, starting, steps)
            count, rule = self._busy(count, rule, wanted, load, steps)
        if not load:
            count, rule = self._idle(now, count, rule, wanted, idle_s, steps)
        count, rule = self._bounded(now, wall, count, rule, wanted, ready, steps)
        count, rule = self._paced(now, count, rule, wanted, steps)
        self._rest(now, count, rule, load, averages)
        return Decision(
            at=wall,
            replicas=count,
            previous=wanted,
            rule=rule,
            reason="; ".join(steps),
            ready=ready,
            starting=starting,
            in_flight=load - queued,
            queued=queued,
            stable=averages and averages[0],
            panic=averages and averages[1],
            aim=settings.aim,
            idle_s=idle_s,
            spare=None if averages is None else self.recommender.spare(settings, ready, averages[1]),
        )

    # the rules

    def _at_zero(self, now: float, averages: tuple[float, float] | None, queued: int, steps: list[str]) -> tuple[int, Rule]:
        if queued:  # calls in flight are finished by replicas that drain
            self._stopped = False
            aim = self._calls_aim()
            count = ceil(queued / aim)
            if count > 1:
                self.recommender.panic(now, count)
            steps.append(f"{queued} waiting at zero / target {aim:g} → {count}")
            return count, Rule.BACKLOG
        if self.settings.metric is Metric.CUSTOM and averages is not None and averages[0] > 0 and not self._stopped:
            return self._asked(now, averages, 0, steps)
        if not self.settings.zero and not self._stopped:
            steps.append("it may not be at zero any more → 1")
            return 1, Rule.KEPT
        steps.append("at zero until a call comes")
        return 0, Rule.STOPPED if self._stopped else Rule.IDLE

    def _asked(self, now: float, averages: tuple[float, float], ready: int, steps: list[str]) -> tuple[int, Rule]:
        settings = self.settings
        stable, panic = averages
        count, rule = self.recommender.recommend(settings, now, ready=ready, stable=stable, panic=panic)
        unit, aim = UNITS[settings.metric], settings.aim
        if rule is Rule.PANIC:
            window = format_duration(settings.panic_window_s)
            asked = ceil(panic / aim)
            steps.append(f"{panic:.4g} {unit} over {window} / target {aim:g} → {asked}")
            if self._kept.replicas == count > asked and now <= self._kept.until:
                steps.append(f"{self._kept.why}: {count} are kept")
            else:
                steps.append("in panic" if asked == count else f"in panic {count} are kept")
        else:
            window = format_duration(settings.window_s)
            steps.append(f"{stable:.4g} {unit} over {window} / target {aim:g} → {ceil(stable / aim)}")
            if rule is Rule.RATE:
                steps.append(f"one step leads to {count}")
            elif rule is Rule.ACTIVATION:
                steps.append(f"at least {count} with any load")
            elif rule is Rule.DELAY:
                steps.append(f"the most of the last {format_duration(settings.down_delay_s)} is {count}")
        return count, rule

    def _backlog(
        self, now: float, count: int, rule: Rule, load: int, queued: int, ready: int, starting: int, steps: list[str]
    ) -> tuple[int, Rule]:
        there = ready + starting
        if not queued or there * self._capacity >= load or (there and not self._capacity):
            return count, rule
        aim = self._calls_aim()
        asked = ceil(load / aim)
        waited_s = self.observed.waited_s(now)
        twice = load >= self.settings.panic_threshold * there * self._capacity
        urgent = twice or waited_s >= URGENT_WAIT_S
        if asked <= count or not urgent:
            return count, rule
        self.recommender.panic(now, asked)
        steps.append(f"{load - queued} in flight + {queued} waiting / target {aim:g} → {asked}")
        return asked, Rule.BACKLOG

    def _busy(self, count: int, rule: Rule, wanted: int, load: int, steps: list[str]) -> tuple[int, Rule]:
        filled = min(wanted, ceil(load / self._capacity) if self._capacity else min(load, 1))
        if count >= filled:
            return count, rule
        steps.append(f"{'1 call fills' if load == 1 else f'{load} calls fill'} {filled}")
        return filled, Rule.BUSY

    def _idle(self, now: float, count: int, rule: Rule, wanted: int, idle_s: float, steps: list[str]) -> tuple[int, Rule]:
        settings, since = self.settings, now - idle_s
        if settings.zero and not (wanted == 0 and self._stopped):
            plan = self._plan()
            prewarm_after_s = max(plan.keep_s, plan.prewarm_after_s - self.lead.lead_s)
            if prewarm_after_s <= idle_s < plan.until_s:
                self._look(since + plan.until_s)
                if count == 0:
                    steps.append(f"a call is likely now: {plan.reason} → 1")
                return count or 1, rule if count else Rule.LEARNT
            if wanted and now < self._held_until:
                steps.append(f"set by hand: not to zero within {format_duration(settings.window_s)}")
                self._look(self._held_until)
                return count or 1, rule if count else Rule.KEPT
            if idle_s >= plan.keep_s:
                self._await(since + prewarm_after_s if idle_s < prewarm_after_s else inf)
                if wanted:
                    steps.append(f"idle for {format_duration(idle_s)}: {plan.reason} → 0")
                return 0, rule if wanted == 0 else Rule.IDLE if self.keep_alive is None else Rule.LEARNT
            self._look(since + plan.keep_s)
        if wanted and count == 0:
            steps.append("one is kept")
            return 1, Rule.KEPT
        return count, rule

    def _plan(self) -> Plan:
        after_s = self.settings.zero_after_s
        if self.keep_alive is not None:
            return self.keep_alive.plan(after_s)
        return Plan(after_s, inf, after_s, f"zero after {format_duration(after_s)}")

    def _bounded(
        self, now: float, wall: float, count: int, rule: Rule, wanted: int, ready: int, steps: list[str]
    ) -> tuple[int, Rule]:
        settings = self.settings
        floors: list[tuple[int, Rule, str]] = []
        if self._initial and wanted:
            floors.append((self._initial, Rule.INITIAL, f"initial scale {self._initial}"))
            if ready >= self._initial:  # reached: it holds for this decision a last time
                self._initial = 0
                self._look(now + STEP_S)
        if not self._stopped:
            if settings.schedule:
                if not self._floor_since <= wall < self._floor_until:
                    floor, entry, self._floor_until = floor_at(settings.schedule, wall)
                    self._floor = floor, "" if entry is None else f"{entry.start} to {entry.end} {entry.zone}"
                    self._floor_since = wall
                floors.append((self._floor[0], Rule.SCHEDULE, f"the schedule {self._floor[1]} has {self._floor[0]}"))
                self._look(now + min(self._floor_until - wall, WALL_TRUST_S))
                if not self._floor[0]:  # what changes next is that an entry begins
                    self.due_at = min(self.due_at, now + self._floor_until - wall)
            if self._due:
                self._due = tuple(due for due in self._due if due[1] > now)
                if any(since <= now for since, _ in self._due):
                    floors.append((1, Rule.TIMER, "a call is due"))
                self._look(min((until for since, until in self._due if since <= now), default=inf))
                self._await(min((since for since, _ in self._due if since > now), default=inf))
        if count or any(floor for floor, _, _ in floors):
            floors.append((settings.min_replicas, Rule.MIN, f"raised to min {settings.min_replicas}"))
        for floor, why, words in floors:
            if count < floor:
                count, rule = floor, why
                steps.append(words)
        if count > settings.max_replicas:
            steps.append(f"limited by max {settings.max_replicas}")
            return settings.max_replicas, Rule.MAX
        return count, rule

    def _paced(self, now: float, count: int, rule: Rule, wanted: int, steps: list[str]) -> tuple[int, Rule]:
        if count >= wanted:
            return count, rule
        if count > 0 and wanted <= self.settings.max_replicas and now - self._fell_at < STEP_S:
            self._look(self._fell_at + STEP_S)
            steps.append(f"fell less than {format_duration(STEP_S)} ago: {wanted} for now")
            return wanted, Rule.RATE
        self._fell_at = now
        return count, rule

    # between decisions

    def _rest(self, now: float, count: int, rule: Rule, load: int, averages: tuple[float, float] | None) -> None:
        """Say when to look again, and let go of what an idle revision does not need."""
        settings, observed = self.settings, self.observed
        if count == 0:
            self.recommender.calm()
            if settings.metric is not Metric.CUSTOM:
                observed.rest()
        elif load:
            return  # edges tell each second
        elif count > 1 and rule not in _FLOORS and averages is not None:
            self._look(now + STEP_S)
        elif averages == (0.0, 0.0):
            observed.rest()
        elif not observed.resting:
            self._look(now + settings.window_s)

    def _look(self, at: float) -> None:
        self.look_at = min(self.look_at, at)

    def _await(self, at: float) -> None:
        self._look(at)
        self.due_at = min(self.due_at, at)

    def _calls_aim(self) -> float:
        """How many calls one replica should have, whatever the metric is."""
        if self.settings.metric is Metric.CONCURRENCY:
            return self.settings.aim
        return max(1.0, (self._capacity or DEFAULT_CONCURRENCY) * self.settings.utilisation)
