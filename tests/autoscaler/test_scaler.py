from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from autoscaler.history import History
from autoscaler.scaler import CHANGES_KEPT, Scaler
from autoscaler.starts import StartLimits
from orchestration.decisions import Rule
from orchestration.events import FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.orchestrator import FunctionStatus, NotFound, Orchestrator
from orchestration.replica import Replica, ReplicaState
from orchestration.rollout import Condition, Phase, deploy, promote
from orchestration.settings import DEFAULT_CONCURRENCY
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget
from tests.autoscaler.samples import sample

HELLO = FunctionId("openfaas-fn", "hello")


def spec(labels: Mapping[str, str], concurrency: int, image: str = "x") -> FunctionSpec:
    return FunctionSpec(service="hello", image=image, labels=labels, env_vars={"max_inflight": str(concurrency)})


class Place:
    """The part of an orchestrator that the scaler uses; `refusals` writes fail before one is taken."""

    def __init__(
        self, labels: dict[str, str], replicas: int = 1, refusals: int = 0, concurrency: int = DEFAULT_CONCURRENCY
    ) -> None:
        self.function: Function | None = deploy(None, spec(labels, concurrency), "sha256:a", 0.0)
        self.revision = "hello-00001"
        self.replicas = replicas
        self.refusals = refusals
        self.writes: list[int] = []
        self.victims: list[tuple[str, ...]] = []
        self.under_way = self.tries = 0
        self.tried_again = asyncio.Event()
        self.written = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.warmth: list[str] = []

    async def prewarm(self, revision: tuple[str, str]) -> None:
        self.warmth.append(f"prewarm {revision[1]}")

    async def cool(self, revision: tuple[str, str]) -> None:
        self.warmth.append(f"cool {revision[1]}")

    def status(self, function: FunctionId) -> FunctionStatus:
        if self.function is None:
            raise NotFound(str(function))
        return FunctionStatus(
            function=self.function,
            replicas=self.replicas,
            available=self.replicas,
            instances=(),
            condition=Condition(Phase.READY),
        )

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        assert revision == ("openfaas-fn", self.revision)
        self.under_way += 1
        self.tries += 1
        if self.tries > 1:
            self.tried_again.set()
        assert self.under_way == 1, "more than one write under way"
        try:
            await self.gate.wait()
            if self.refusals:
                self.refusals -= 1
                raise OSError("refused")
            self.writes.append(replicas)
            self.victims.append(tuple(victims))
            self.replicas = replicas
            self.written.set()
        finally:
            self.under_way -= 1

    @property
    def changed(self) -> FunctionChanged:
        assert self.function is not None
        return FunctionChanged(self.function)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Started:
    """A scaler that knows the place's function; `options` are its own."""

    def __init__(self, place: Place, clock: Clock, **options: Any) -> None:
        self.place = place
        self.scaler = Scaler(cast("Orchestrator", cast("Any", place)), clock, lambda: 1_700_000_000.0, **options)

    async def __aenter__(self) -> Scaler:
        await self.scaler.__aenter__()
        self.scaler.apply(self.place.changed)
        await settled()
        return self.scaler

    async def __aexit__(self, *exc: object) -> None:
        await self.scaler.__aexit__(None, None, None)


@pytest.fixture
async def idle_to_zero(clock: Clock) -> AsyncIterator[tuple[Place, Scaler]]:
    place = Place({"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "60s"})
    async with Started(place, clock) as scaler:
        yield place, scaler


async def test_a_call_waiting_at_zero_wakes_the_function(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.min": "2"}, replicas=0)
    async with Started(place, clock) as scaler:
        assert place.writes == []
        scaler.sample(sample(queued=1, arrivals=1))
        await settled()
        assert place.writes == [2]


async def test_an_idle_function_goes_to_zero_when_its_time_is_over(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    clock.now += 59
    scaler.ring()
    await settled()
    assert place.writes == []
    clock.now += 2
    scaler.ring()
    await settled()
    assert place.writes == [0]


async def at(clock: Clock, scaler: Scaler, now: float) -> None:
    clock.now = now
    scaler.ring()
    await settled()


async def test_a_revision_at_zero_is_prepared_before_a_call_that_is_due(
    idle_to_zero: tuple[Place, Scaler], clock: Clock
) -> None:
    place, scaler = idle_to_zero
    began = clock.now
    await at(clock, scaler, began + 61)
    assert (place.writes, place.warmth) == ([0], [])
    scaler.expect(HELLO, 1_700_000_000.0 + 600)  # the wall clock of these tests stands still: in 600 s from now
    await at(clock, scaler, began + 61 + 500)
    assert place.warmth == []
    await at(clock, scaler, began + 61 + 590)
    assert (place.writes, place.warmth) == ([0], ["prewarm hello-00001"])
    await at(clock, scaler, began + 61 + 601)
    assert (place.writes, place.warmth) == ([0, 1], ["prewarm hello-00001"])


async def test_a_revision_that_nobody_calls_for_a_day_lets_go_of_what_is_ready(
    idle_to_zero: tuple[Place, Scaler], clock: Clock
) -> None:
    place, scaler = idle_to_zero
    began = clock.now
    await at(clock, scaler, began + 61)
    await at(clock, scaler, began + 80_000)
    assert place.warmth == []
    await at(clock, scaler, began + 90_000)
    await at(clock, scaler, began + 190_000)
    assert place.warmth == ["cool hello-00001"]


async def test_a_shorter_idle_time_takes_effect_at_once(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    labels = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "5s"}
    place.function = deploy(place.function, FunctionSpec(service="hello", image="x", labels=labels), "sha256:a", 1.0)
    scaler.apply(place.changed)
    await settled()
    clock.now += 6
    scaler.ring()
    await settled()
    assert place.writes == [0]


async def test_a_call_starts_the_idle_time_anew(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    clock.now += 50
    scaler.sample(sample(in_flight=1, arrivals=1, interval_s=0.0))
    await settled()
    clock.now += 50
    scaler.sample(sample())
    await settled()
    clock.now += 30
    scaler.ring()
    await settled()
    assert place.writes == [], "80 s after the arrival, but the edge said at 50 s that a call was in flight"
    clock.now += 40
    scaler.ring()
    await settled()
    assert place.writes == [0]


async def test_a_long_call_on_another_edge_keeps_it_up(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    scaler.sample(sample(in_flight=1, arrivals=1, edge="e1"))
    scaler.sample(sample(edge="e0"))
    clock.now += 300
    scaler.ring()
    await settled()
    assert place.writes == []
    scaler.forget_edge("e1")
    await settled()
    assert place.writes == [0]


async def test_what_happens_during_a_write_is_looked_at_after_it(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    place.gate.clear()
    clock.now += 61
    scaler.ring()
    await settled()
    scaler.sample(sample(queued=1, arrivals=1))
    await settled()
    assert place.writes == []
    place.gate.set()
    await settled()
    assert place.writes == [0, 1]


async def test_a_refused_write_is_tried_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.scaler.FIRST_RETRY_S", 0.0)
    place = Place({}, replicas=0, refusals=3)
    async with Started(place, clock) as scaler:
        scaler.sample(sample(queued=1))
        async with asyncio.timeout(20):
            await place.written.wait()
        assert place.writes == [1]


async def test_the_floor_of_a_new_deploy_takes_effect(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.min": "3"}, replicas=1)
    async with Started(place, clock):
        assert place.writes == [3]


async def test_samples_of_an_unknown_or_removed_function_are_ignored(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    place.function = None
    scaler.apply(FunctionRemoved(HELLO.namespace, HELLO.name))
    clock.now += 100
    scaler.sample(sample(queued=5))
    scaler.ring()
    await settled()
    assert place.writes == []


def replica(number: int, state: ReplicaState = ReplicaState.RUNNING, revision: str = "hello-00001") -> ReplicaChanged:
    return ReplicaChanged(
        Replica(id=f"r{number}", namespace=HELLO.namespace, function=HELLO.name, revision=revision, state=state)
    )


async def test_a_burst_of_calls_at_zero_asks_for_all_it_needs_in_the_first_write(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40", "com.openfaas.scale.zero": "true"}, replicas=0, concurrency=10)
    async with Started(place, clock) as scaler:
        scaler.sample(sample(queued=100, arrivals=100, interval_s=0.0))
        await settled()
        assert place.writes == [15]
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert explained.latest is not None
        assert explained.changes[0].reason == "100 waiting at zero / target 7 → 15"


async def test_samples_within_one_turn_are_decided_upon_once(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40"}, replicas=0, concurrency=10)
    async with Started(place, clock) as scaler:
        for edge in ("e0", "e1", "e2"):
            scaler.sample(sample(queued=20, arrivals=20, interval_s=0.0, edge=edge))
        await settled()
        assert place.writes == [9]


async def test_replicas_without_calls_on_any_edge_go_first(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40"}, replicas=4, concurrency=10)
    async with Started(place, clock) as scaler:
        for number in range(4):
            scaler.apply(replica(number))
        clock.now += 61
        for edge, idle in (("e0", ("r1", "r2", "r3")), ("e1", ("r0", "r2", "r1"))):
            scaler.sample(sample(in_flight=1, idle_replicas=idle, edge=edge))
        await settled()
        assert (place.writes, place.victims) == ([2], [("r1", "r2")])


async def test_a_count_set_by_hand_holds_and_zero_by_hand_stays(clock: Clock) -> None:
    place = Place({}, replicas=1)
    async with Started(place, clock) as scaler:
        place.replicas = 3
        scaler.apply(place.changed)
        await settled()
        clock.now += 30
        scaler.ring()
        await settled()
        assert place.writes == []
        for _ in range(4):
            clock.now += 31
            scaler.ring()
            await settled()
        assert place.writes[-1] == 1
        place.replicas = 0
        scaler.apply(place.changed)
        await settled()
        assert place.replicas == 0


async def test_a_new_revision_goes_on_with_the_load_that_is_known(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40"}, replicas=1, concurrency=10)
    async with Started(place, clock) as scaler:
        for _ in range(20):
            clock.now += 1
            scaler.sample(sample(in_flight=35, concurrency=35.0))
        await settled()
        assert place.writes == [5]
        assert place.function is not None
        place.function = promote(deploy(place.function, spec(place.function.spec.labels, 10, "y"), "sha256:b", 1.0), 2.0)
        place.revision = "hello-00002"
        scaler.apply(place.changed)
        clock.now += 1
        scaler.sample(sample(in_flight=35, concurrency=35.0, revision="hello-00001"))
        scaler.sample(sample(in_flight=35, concurrency=35.0, revision="hello-00002"))
        await settled()
        assert place.writes == [5]


async def test_decisions_are_counted_by_rule_and_the_limit_is_seen(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "3"}, replicas=0, concurrency=10)
    async with Started(place, clock) as scaler:
        (before,) = scaler.figures()
        assert (before.function, before.limited, before.decided, before.settings.max_replicas) == (HELLO, False, {}, 3)
        scaler.sample(sample(queued=100, arrivals=100, interval_s=0.0))
        await settled()
        (after,) = scaler.figures()
        assert (after.limited, after.decided) == (True, {Rule.MAX: 1})


async def test_calls_of_a_revision_that_gets_none_any_more_do_not_keep_the_function_up(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "60s"})
    async with Started(place, clock) as scaler:
        scaler.sample(sample(in_flight=3, arrivals=3))
        assert place.function is not None
        place.function = promote(deploy(place.function, spec(place.function.spec.labels, 10, "y"), "sha256:b", 1.0), 2.0)
        place.revision = "hello-00002"
        scaler.apply(place.changed)
        scaler.sample(sample(concurrency=1.0, revision="hello-00001"))
        await settled()
        clock.now += 59
        scaler.ring()
        await settled()
        assert place.writes == []
        clock.now += 2
        scaler.ring()
        await settled()
        assert place.writes == [0]


async def test_what_the_last_leader_did_was_not_done_by_hand(clock: Clock) -> None:
    schedule = {"com.pinnace.scale.schedule": "0 0 1 1 * | 59 23 31 12 * | 1"}
    place = Place({"com.openfaas.scale.zero": "true"} | schedule)
    async with Started(place, clock, leads=False) as scaler:
        place.replicas = 0
        scaler.apply(place.changed)
        await settled()
        scaler.lead(True)
        await settled()
        assert place.writes == [1], "the schedule holds"


async def test_a_zero_by_hand_outlives_who_led(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.min": "2"}, replicas=2)
    async with Started(place, clock, leads=False) as scaler:
        place.replicas = 0
        scaler.apply(place.changed)
        await settled()
        scaler.lead(True)
        await settled()
        assert place.writes == []


async def test_a_write_that_hangs_is_given_up_and_tried_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.scaler.WRITE_WITHIN_S", 0.01)
    monkeypatch.setattr("autoscaler.scaler.FIRST_RETRY_S", 0.0)
    place = Place({}, replicas=0)
    place.gate.clear()
    async with Started(place, clock) as scaler:
        scaler.sample(sample(queued=1))
        async with asyncio.timeout(20):
            await place.tried_again.wait()
            place.gate.set()
            await place.written.wait()
        assert place.writes == [1]


async def test_a_write_that_is_refused_holds_no_places_meanwhile(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40"}, replicas=0, concurrency=10, refusals=1)
    async with Started(place, clock, limits=StartLimits(per_function=4, total=4)) as scaler:
        scaler.sample(sample(queued=100, arrivals=100, interval_s=0.0))
        await settled()
        assert place.refusals == 0
        assert scaler._starts.room(FunctionId("openfaas-fn", "other")) == 4


async def test_a_replica_count_that_cannot_be_known_changes_nothing(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Knative's vector 26."""
    place = Place({}, replicas=0)
    async with Started(place, clock) as scaler:
        known = place.status

        def unknown(function: FunctionId) -> FunctionStatus:
            raise OSError("no answer")

        monkeypatch.setattr(place, "status", unknown)
        scaler.sample(sample(queued=1, arrivals=1))
        await settled()
        assert place.writes == []
        monkeypatch.setattr(place, "status", known)
        scaler.sample(sample(queued=1))
        await settled()
        assert place.writes == [1]


async def test_settings_that_no_function_has_any_more_are_let_go(clock: Clock) -> None:
    place = Place({})
    async with Started(place, clock) as scaler:
        for window in range(10, 30):
            labels = {"autoscaling.knative.dev/window": f"{window}s"}
            place.function = deploy(place.function, spec(labels, 0), "sha256:a", 1.0)
            scaler.apply(place.changed)
        await settled()
        gc.collect()
        assert len(scaler._settings) <= 2


async def test_as_many_start_at_a_time_as_may_and_the_rest_when_they_have(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40"}, replicas=0, concurrency=10)
    async with Started(place, clock, limits=StartLimits(per_function=4, total=8)) as scaler:
        scaler.sample(sample(queued=100, arrivals=100, interval_s=0.0))
        await settled()
        assert place.writes == [4]
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert explained.latest is not None
        assert explained.latest.rule is Rule.STARTS
        scaler.apply(replica(0))
        scaler.apply(replica(1))
        await settled()
        assert place.writes == [4, 6]
        scaler.apply(replica(2, ReplicaState.CRASH_LOOP))
        await settled()
        assert place.writes == [4, 6, 7], "what fails to start holds no place"


async def test_who_does_not_lead_follows_the_load_and_writes_when_it_does(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.max": "40"}, replicas=0, concurrency=10)
    async with Started(place, clock, leads=False) as scaler:
        scaler.sample(sample(queued=100, arrivals=100, interval_s=0.0))
        await settled()
        assert place.writes == []
        scaler.lead(True)
        await settled()
        assert place.writes == [15]


async def test_a_metric_that_is_measured(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.type": "cpu", "com.openfaas.scale.target": "500"}, replicas=1)
    async with Started(place, clock) as scaler:
        scaler.measured(HELLO, None, "no cgroups here")
        await settled()
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert (explained.trouble, place.writes) == ("no cgroups here", [])
        scaler.measured(HELLO, 1800.0)
        await settled()
        assert place.writes == [4]


async def test_what_was_decided_is_kept_in_bounds(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "5s"}, replicas=0)
    async with Started(place, clock) as scaler:
        for _ in range(CHANGES_KEPT):
            scaler.sample(sample(queued=1, arrivals=1, interval_s=0.0))
            await settled()
            scaler.sample(sample())
            clock.now += 6
            scaler.ring()
            await settled()
        explained = scaler.explain(HELLO)
        assert explained is not None
        assert len(explained.changes) == CHANGES_KEPT
        assert [change.replicas for change in explained.changes[:2]] == [0, 1]
        assert scaler.explain(FunctionId("x", "y")) is None


async def test_idle_times_are_learnt_kept_and_told(clock: Clock, tmp_path: Path) -> None:
    place = Place({"com.openfaas.scale.zero": "true"}, replicas=1)
    for expected in ("no idle time known yet: 15m", "1 idle time known"):
        async with History(tmp_path / "idle-times") as history, Started(place, clock, history=history) as scaler:
            explained = scaler.explain(HELLO)
            assert explained is not None
            assert explained.learnt.startswith(expected)
            scaler.sample(sample(arrivals=1, in_flight=1, interval_s=0.0))
            clock.now += 1
            scaler.sample(sample(concurrency=0.5))
            clock.now += 300
            scaler.sample(sample(arrivals=1, in_flight=1, interval_s=0.0))
            await settled()
    async with History(tmp_path / "idle-times") as history, Started(place, clock, history=history) as scaler:
        scaler.apply(FunctionRemoved(HELLO.namespace, HELLO.name))
        assert history.keep_alive(HELLO).count == 0


async def test_a_due_call_is_prepared_as_early_as_starts_have_taken(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "5s"}, replicas=0)
    async with Started(place, clock) as scaler:
        scaler.apply(replica(0, ReplicaState.PENDING))
        running = msgspec.structs.replace(replica(0).replica, started_at=100.0, ready_at=104.0)
        scaler.apply(ReplicaChanged(running))
        scaler.apply(replica(0, ReplicaState.STOPPED))
        scaler.expect(HELLO, 1_700_000_000.0 + 60)  # 60 s from now
        clock.now += 54.9
        scaler.ring()
        await settled()
        assert place.writes == []
        clock.now += 0.2  # 4 s and a quarter more before
        scaler.ring()
        await settled()
        assert place.writes == [1]


class Split(Place):
    """Two revisions; `wanted` is what each should have, by name."""

    def __init__(self, labels: dict[str, str], traffic: tuple[TrafficTarget, ...], wanted: dict[str, int]) -> None:
        super().__init__(labels)
        assert self.function is not None
        both = promote(deploy(self.function, spec(labels, 10, "y"), "sha256:b", 1.0), 2.0)
        self.function = msgspec.structs.replace(both, traffic=traffic)
        self.wanted = wanted

    def status(self, function: FunctionId) -> FunctionStatus:
        return msgspec.structs.replace(super().status(function), wanted=dict(self.wanted))

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        self.wanted[revision[1]] = replicas
        self.written.set()


OLD, NEW = "hello-00001", "hello-00002"


async def test_each_revision_that_calls_can_come_to_is_followed() -> None:
    place = Split({}, (TrafficTarget(OLD, 50), TrafficTarget(NEW, 50)), {OLD: 1, NEW: 1})
    async with Scaler(cast(Orchestrator, place)) as scaler:
        scaler.apply(FunctionChanged(place.function))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        scaler.sample(sample(revision=NEW, queued=30))
        await asyncio.wait_for(place.written.wait(), 20)
        assert place.wanted[NEW] > 1
        assert place.wanted[OLD] == 1
        scaler.sample(sample(revision=OLD, queued=300))
        place.written.clear()
        await asyncio.wait_for(place.written.wait(), 20)
        assert place.wanted[OLD] > 1


async def test_a_call_to_a_tag_starts_a_replica_of_it() -> None:
    place = Split({}, (TrafficTarget(OLD, 100), TrafficTarget(NEW, 0, "green")), {OLD: 1, NEW: 0})
    async with Scaler(cast(Orchestrator, place)) as scaler:
        scaler.apply(FunctionChanged(place.function))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert place.wanted == {OLD: 1, NEW: 0}, "the floor is for those that get a share of the calls"
        scaler.sample(sample(revision=NEW, queued=1))
        await asyncio.wait_for(place.written.wait(), 20)
        assert place.wanted == {OLD: 1, NEW: 1}


async def test_the_floor_holds_for_each_revision_with_a_share() -> None:
    place = Split({"com.openfaas.scale.min": "2"}, (TrafficTarget(OLD, 90), TrafficTarget(NEW, 10)), {OLD: 1, NEW: 1})
    async with Scaler(cast(Orchestrator, place)) as scaler:
        scaler.apply(FunctionChanged(place.function))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            while place.wanted != {OLD: 2, NEW: 2}:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)


async def test_a_revision_that_gets_no_calls_any_more_is_not_decided_upon() -> None:
    place = Split({}, (TrafficTarget(OLD, 50), TrafficTarget(NEW, 50)), {OLD: 1, NEW: 1})
    async with Scaler(cast(Orchestrator, place)) as scaler:
        scaler.apply(FunctionChanged(place.function))  # type: ignore[arg-type]
        assert place.function is not None
        place.function = msgspec.structs.replace(place.function, traffic=(TrafficTarget(OLD, 100),))
        place.wanted = {OLD: 1, NEW: 0}
        scaler.apply(FunctionChanged(place.function))
        scaler.sample(sample(revision=NEW, queued=30))
        await asyncio.sleep(0.05)
        assert place.wanted == {OLD: 1, NEW: 0}


async def test_a_measured_metric_is_parted_by_ready_replicas() -> None:
    labels = {"com.openfaas.scale.type": "cpu", "com.openfaas.scale.target": "100"}
    place = Split(labels, (TrafficTarget(OLD, 50), TrafficTarget(NEW, 50)), {OLD: 3, NEW: 1})
    async with Scaler(cast(Orchestrator, place)) as scaler:
        scaler.apply(FunctionChanged(place.function))  # type: ignore[arg-type]
        for name, count in place.wanted.items():
            for n in range(count):
                running = Replica(
                    id=f"{name}-{n}", namespace="openfaas-fn", function="hello", revision=name, state=ReplicaState.RUNNING
                )
                scaler.apply(ReplicaChanged(running))
        scaler.measured(HELLO, 1600.0)
        async with asyncio.timeout(20):
            while place.wanted[NEW] < 4:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        assert place.wanted[NEW] < place.wanted[OLD]


async def test_what_was_learnt_goes_along_with_most_of_the_calls(tmp_path: Path) -> None:
    labels = {"com.openfaas.scale.zero": "true"}
    place = Split(labels, (TrafficTarget(OLD, 90), TrafficTarget(NEW, 10)), {OLD: 1, NEW: 1})
    async with History(tmp_path / "idle") as history, Scaler(cast(Orchestrator, place), history=history) as scaler:
        scaler.apply(FunctionChanged(place.function))  # type: ignore[arg-type]
        learnt = history.keep_alive(HELLO)
        for idle_s in (5.0,) * 20:
            learnt.idle(idle_s)
        before = scaler.explain(HELLO)
        assert before is not None and before.learnt
        assert place.function is not None
        place.function = msgspec.structs.replace(place.function, traffic=(TrafficTarget(OLD, 10), TrafficTarget(NEW, 90)))
        scaler.apply(FunctionChanged(place.function))
        after = scaler.explain(HELLO)
        assert after is not None and after.learnt == before.learnt
