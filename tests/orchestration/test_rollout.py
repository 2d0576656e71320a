from __future__ import annotations

import contextlib
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.function import Function
from orchestration.revision import REVISIONS_KEPT
from orchestration.rollout import (
    NothingToMove,
    Outdated,
    abort,
    counts,
    deploy,
    follow,
    may_promote,
    needed,
    proceed,
    promote,
    roll_back,
    set_traffic,
    superseded,
    told,
)
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec, Resources
from orchestration.traffic import FOLLOWING, LATEST, InvalidTraffic, TrafficTarget, all_to


def spec(**changes: object) -> FunctionSpec:
    return FunctionSpec(service="hello", image="hello:1", **changes)  # type: ignore[arg-type]


def first() -> Function:
    return deploy(None, spec(), "sha256:a", now=1.0)


def test_the_first_revision_gets_the_traffic_at_once() -> None:
    function = first()
    assert [r.name for r in function.revisions] == ["hello-00001"]
    assert function.traffic == all_to("hello-00001")


def test_the_same_deploy_again_makes_no_revision() -> None:
    again = deploy(first(), spec(), "sha256:a", now=2.0)
    assert len(again.revisions) == 1
    assert again.generation == 2


def test_what_changes_code_or_environment_makes_a_revision() -> None:
    changes: list[tuple[FunctionSpec, str]] = [
        (spec(), "sha256:b"),
        (spec(env_vars={"A": "1"}), "sha256:a"),
        (spec(env_process="python x.py"), "sha256:a"),
        (spec(secrets=("s",)), "sha256:a"),
        (spec(limits=Resources(memory="64Mi")), "sha256:a"),
        (spec(labels={"team": "red"}), "sha256:a"),
        (spec(annotations={"note": "x"}), "sha256:a"),
        (spec(labels={"com.pinnace.timeout": "5s"}), "sha256:a"),
        (spec(read_only_root_filesystem=True), "sha256:a"),
    ]
    for changed, bundle in changes:
        function = deploy(first(), changed, bundle, now=2.0)
        assert function.newest.number == 2, changed
        assert function.traffic == all_to("hello-00001"), "traffic waits until the new revision is ready"


def test_scaling_labels_take_effect_without_a_revision() -> None:
    function = deploy(first(), spec(labels={"com.openfaas.scale.max": "3"}), "sha256:a", now=2.0)
    assert len(function.revisions) == 1
    assert function.spec.labels == {"com.openfaas.scale.max": "3"}


def test_the_order_of_secrets_and_variables_is_no_change() -> None:
    one = deploy(None, spec(secrets=("a", "b"), env_vars={"A": "1", "B": "2"}), "sha256:a", now=1.0)
    two = deploy(one, spec(secrets=("b", "a"), env_vars={"B": "2", "A": "1"}), "sha256:a", now=2.0)
    assert len(two.revisions) == 1


def test_promote_moves_all_traffic_to_the_newest() -> None:
    function = promote(deploy(first(), spec(), "sha256:b", now=2.0), now=3.0)
    assert function.traffic == all_to("hello-00002")
    assert function.serving.name == "hello-00002"


def test_old_revisions_go_but_never_one_with_traffic() -> None:
    function = first()
    for n in range(2, 40):
        function = deploy(function, spec(), f"sha256:{n}", now=float(n))
    assert len(function.revisions) == REVISIONS_KEPT + 1
    assert function.revisions[0].name == "hello-00001"


def test_the_new_revision_takes_over_with_as_many_replicas_as_the_old_one_had() -> None:
    assert not may_promote(ready=1, wanted=2)
    assert may_promote(ready=2, wanted=2)
    assert not may_promote(ready=0, wanted=0)
    assert may_promote(ready=1, wanted=0)


OLD, NEW = "hello-00001", "hello-00002"
GRADUAL = {"com.pinnace.rollout.duration": "60s", "com.pinnace.rollout.steps": "5,50"}


def second(**changes: object) -> Function:
    """Two revisions, of which the newer one is not ready."""
    return deploy(first(), spec(**changes), "sha256:b", now=2.0)


def split(function: Function) -> dict[str, int]:
    return {target.revision: target.percent for target in function.traffic if target.percent}


def test_a_revision_is_rolling_until_it_was_ready_once() -> None:
    assert not first().rolling
    assert second().rolling
    assert not promote(second(), now=3.0).rolling


def test_a_table_that_names_revisions_is_not_moved_by_deploys() -> None:
    both = set_traffic(promote(second(), 3.0), (TrafficTarget(OLD, 90), TrafficTarget(NEW, 10)), 4.0)
    third = promote(deploy(both, spec(), "sha256:c", 5.0), 6.0)
    assert split(third) == {OLD: 90, NEW: 10}
    assert third.latest_ready == "hello-00003"
    assert told(third) == "hello-00003 gets no calls: traffic is set by hand (faas promote hello moves it)"


def test_a_share_of_latest_follows_deploys() -> None:
    canary = set_traffic(promote(second(), 3.0), (TrafficTarget(OLD, 90), TrafficTarget(LATEST, 10, "next")), 4.0)
    assert split(canary) == {OLD: 90, NEW: 10}
    third = promote(deploy(canary, spec(), "sha256:c", 5.0), 6.0)
    assert split(third) == {OLD: 90, "hello-00003": 10}
    assert third.traffic[-1].tag == "next"


def test_blue_green_is_a_table_with_a_tag_and_then_all_to_latest() -> None:
    blue = set_traffic(first(), all_to(OLD), 2.0)
    green = deploy(blue, spec(), "sha256:b", 3.0)
    green = set_traffic(green, (TrafficTarget(OLD, 100), TrafficTarget(NEW, 0, "green")), 4.0)
    green = promote(green, 5.0)
    assert split(green) == {OLD: 100}
    assert green.routes_to(NEW)
    assert "hello-00002 gets only calls that name its tag green: " in told(green)
    moved = follow(green, {}, 6.0)
    assert split(moved) == {NEW: 100}
    assert TrafficTarget(NEW, 0, "green") in moved.traffic


def test_who_has_not_seen_the_present_table_does_not_overwrite_it() -> None:
    function = promote(second(), 3.0)
    changed = set_traffic(function, all_to(OLD), 4.0, known=FOLLOWING)
    with pytest.raises(Outdated, match="changed meanwhile"):
        set_traffic(changed, all_to(NEW), 5.0, known=FOLLOWING)
    with pytest.raises(InvalidTraffic, match="hello-00009"):
        set_traffic(changed, all_to("hello-00009"), 5.0)


def test_a_rollback_goes_to_the_one_before_that_ever_worked_and_stays() -> None:
    function = promote(deploy(promote(second(), 3.0), spec(), "sha256:c", 4.0), 5.0)
    back = roll_back(function, None, {NEW: "hello-00002: it never started"}, 6.0)
    assert split(back) == {OLD: 100}
    assert split(promote(deploy(back, spec(), "sha256:d", 7.0), 8.0)) == {OLD: 100}
    assert split(roll_back(function, NEW, {}, 6.0)) == {NEW: 100}
    with pytest.raises(NothingToMove, match="older than hello-00001"):
        roll_back(back, None, {}, 7.0)
    with pytest.raises(InvalidTraffic, match="hello-00009"):
        roll_back(back, "hello-00009", {}, 7.0)


def test_a_gradual_rollout_goes_step_by_step() -> None:
    function = promote(second(annotations=GRADUAL), 3.0)
    assert split(function) == {OLD: 95, NEW: 5}
    assert told(function) == "hello-00002 gets 5 % of the calls (step 1 of 2)"
    assert proceed(function, NEW, 2, 4.0) is function, "no step is left out"
    assert proceed(function, OLD, 1, 4.0) is function
    half = proceed(function, NEW, 1, 4.0)
    assert split(half) == {OLD: 50, NEW: 50}
    assert proceed(half, NEW, 1, 5.0) is half, "told twice, done once"
    whole = proceed(half, NEW, 2, 6.0)
    assert split(whole) == {NEW: 100}
    assert whole.gradual is None
    assert whole.latest_ready == NEW


def test_a_gradual_rollout_moves_what_latest_has() -> None:
    table = (TrafficTarget(OLD, 60), TrafficTarget(LATEST, 40))
    function = set_traffic(promote(second(), 3.0), table, 4.0)
    third = promote(deploy(function, spec(annotations=GRADUAL), "sha256:c", 5.0), 6.0)
    assert split(third) == {OLD: 60, NEW: 38, "hello-00003": 2}
    assert split(proceed(third, "hello-00003", 1, 7.0)) == {OLD: 60, NEW: 20, "hello-00003": 20}


def test_an_aborted_rollout_is_back_where_it_began_at_once() -> None:
    half = proceed(promote(second(annotations=GRADUAL), 3.0), NEW, 1, 4.0)
    back = abort(half, NEW, 5.0)
    assert split(back) == {OLD: 100}
    assert back.latest_ready == OLD
    assert abort(back, NEW, 6.0) is back
    with pytest.raises(NothingToMove, match="it failed; a table that names hello-00002"):
        follow(back, {NEW: "hello-00002: it failed"}, 7.0)


def test_what_ends_a_gradual_rollout() -> None:
    half = proceed(promote(second(annotations=GRADUAL), 3.0), NEW, 1, 4.0)
    assert split(follow(half, {}, 5.0)) == {NEW: 100}
    assert split(roll_back(half, None, {}, 5.0)) == {OLD: 100}
    assert split(deploy(half, spec(annotations=GRADUAL), "sha256:c", 5.0)) == {OLD: 100}, "what was proven serves"
    assert split(deploy(half, spec(annotations=GRADUAL), "sha256:b", 5.0)) == {OLD: 50, NEW: 50}, "nothing new was deployed"
    tagged = set_traffic(half, (TrafficTarget(LATEST, 100), TrafficTarget(OLD, 0, "blue")), 5.0)
    assert split(tagged) == {OLD: 50, NEW: 50}, "a tag disturbs nothing"


def test_the_first_revision_takes_all_calls_though_rollouts_are_gradual() -> None:
    assert split(deploy(None, spec(annotations=GRADUAL), "sha256:a", 1.0)) == {OLD: 100}


def test_revisions_with_a_tag_are_kept_and_others_as_many_as_are_asked_for() -> None:
    function = set_traffic(first(), (TrafficTarget(LATEST, 100), TrafficTarget(OLD, 0, "first")), 1.0)
    for n in range(2, 20):
        function = promote(
            deploy(function, spec(annotations={"com.pinnace.revisions.keep": "3"}), f"sha256:{n}", float(n)), float(n)
        )
    assert [r.number for r in function.revisions] == [1, 17, 18, 19]
    with pytest.raises(InvalidSetting, match="at least 1"):
        deploy(function, spec(annotations={"com.pinnace.revisions.keep": "0"}), "sha256:x", 30.0)


def test_settings_of_rollouts_make_no_revision() -> None:
    said = {**GRADUAL, "com.pinnace.revisions.keep": "3", "serving.knative.dev/rollout-duration": "1m"}
    assert len(deploy(first(), spec(annotations=said), "sha256:a", 2.0).revisions) == 1


def test_a_new_revision_needs_its_share_of_the_replicas() -> None:
    assert needed(second(), 10) == 10
    assert needed(second(annotations=GRADUAL), 10) == 1
    pinned = set_traffic(second(), all_to(OLD), 3.0)
    assert needed(pinned, 10) == 1, "one shows whether it starts"


def test_replicas_are_there_before_the_calls_are() -> None:
    function = promote(second(), 3.0)
    before = {OLD: 0, NEW: 10}
    half = set_traffic(function, (TrafficTarget(OLD, 45), TrafficTarget(NEW, 55)), 4.0)
    assert counts(function, half, before, {}) == {OLD: 5, NEW: 10}
    assert counts(half, roll_back(half, OLD, {}, 5.0), {OLD: 5, NEW: 10}, {}) == {OLD: 15, NEW: 0}
    tagged = set_traffic(function, (TrafficTarget(NEW, 100), TrafficTarget(OLD, 0, "blue")), 4.0)
    assert counts(function, tagged, before, {}) == before, "a call to the tag starts one"


@given(st.lists(st.integers(1, 50), unique=True, max_size=9), st.integers(0, 40))
def test_a_rollout_to_half_of_the_calls_never_has_more_replicas_than_all_calls_had(steps: list[int], count: int) -> None:
    function, wanted = promote(second(), 3.0), {NEW: count, OLD: 0}
    for step in sorted(steps):
        moved = set_traffic(function, (TrafficTarget(NEW, 100 - step), TrafficTarget(OLD, step)), 4.0)
        wanted = counts(function, moved, wanted, {})
        function = moved
        assert wanted[NEW] == count, "those that serve stay until the load says otherwise"
        assert min(1, count) <= wanted[OLD] <= count


@pytest.mark.parametrize(
    ("load", "asked"),
    [
        (0.1, [1, 1, 1, 1]),
        (1.0, [1, 1, 1, 1]),
        (1.4, [1, 1, 1, 1]),
        (3.0, [1, 1, 2, 4]),
        (5.0, [1, 1, 3, 6]),
        (20.0, [1, 5, 10, 20]),
    ],
)
def test_each_step_of_a_rollout_asks_for_what_its_calls_need(load: float, asked: list[int]) -> None:
    """`load` is in replicas filled as they should be; during each step the autoscaler brings the counts to it."""
    function, wanted, found = promote(second(), 3.0), {NEW: max(1, ceil(load)), OLD: 0}, []
    for step in (5, 25, 50, 100):
        rest = (TrafficTarget(NEW, 100 - step),) if step < 100 else ()
        moved = set_traffic(function, (*rest, TrafficTarget(OLD, step)), 4.0)
        found.append(counts(function, moved, wanted, {})[OLD])
        wanted = {NEW: max(1, ceil(load * (100 - step) / 100)), OLD: max(1, ceil(load * step / 100))}
        function = moved
    assert found == asked


def test_a_table_that_is_set_again_asks_for_no_more_replicas() -> None:
    function, wanted = promote(second(), 3.0), {OLD: 0, NEW: 1}
    for share in (90, 80, 90, 80, 90):
        moved = set_traffic(function, (TrafficTarget(NEW, share), TrafficTarget(OLD, 100 - share)), 4.0)
        wanted = counts(function, moved, wanted, {})
        function = moved
    assert wanted == {OLD: 1, NEW: 1}
    assert counts(function, promote(second(), 3.0), {OLD: 0, NEW: 0}, {}) == {OLD: 0, NEW: 0}, "a function at zero stays there"


def test_a_function_of_an_earlier_version_knows_its_latest_by_its_traffic() -> None:
    earlier = msgspec.structs.replace(promote(second(), 3.0), latest="")
    assert not earlier.rolling
    assert not set_traffic(earlier, all_to(OLD), 4.0).rolling


@given(st.lists(st.integers(0, 10_000), max_size=60))
def test_whatever_happens_all_calls_go_to_revisions_that_are_kept(choices: list[int]) -> None:
    """Each number is one thing that happens: a deploy, readiness, a step, an abort, a table, a way back, following again."""
    function, failures = first(), dict[str, str]()
    for at, choice in enumerate(choices, 2):
        now, names = float(at), [r.name for r in function.revisions]
        one, other = names[choice % len(names)], names[choice // 7 % len(names)]
        share = choice % 101
        with contextlib.suppress(NothingToMove, InvalidTraffic):
            match choice % 7:
                case 0:
                    said = GRADUAL | {"com.pinnace.revisions.keep": str(1 + choice % 3)}
                    function = deploy(function, spec(annotations=said), f"sha256:{choice % 5}", now)
                    failures.pop(function.newest.name, None)
                case 1 if function.rolling and function.newest.name not in failures:
                    function = promote(function, now)
                case 2 if function.gradual is not None:
                    function = proceed(function, function.gradual.revision, function.gradual.step + 1, now)
                case 3 if function.gradual is not None:
                    failures[function.gradual.revision] = "why"
                    function = abort(function, function.gradual.revision, now)
                case 4:
                    table = (
                        TrafficTarget(one, share),
                        TrafficTarget(LATEST, 100 - share, "next"),
                        TrafficTarget(other, 0, "old"),
                    )
                    function = set_traffic(function, table, now)
                case 5:
                    function = roll_back(function, None if choice % 2 else one, failures, now)
                case 6:
                    function = follow(function, failures, now)
        kept = {r.name for r in function.revisions}
        assert sum(t.percent for t in function.traffic) == 100
        assert all(0 <= t.percent <= 100 for t in function.traffic)
        assert {t.revision for t in function.traffic} <= kept
        assert {t.revision for t in function.split} <= kept | {LATEST}
        assert function.latest_ready in kept
        assert len({t.tag for t in function.traffic if t.tag}) == sum(t.tag is not None for t in function.traffic)
        assert function.gradual is None or function.gradual.revision == function.newest.name
        wanted = dict.fromkeys(kept, choice % 5)
        assert set(counts(function, function, wanted, failures)) == kept


@pytest.mark.parametrize("percent", [0, 1, 10, 100])
def test_a_tag_of_latest_moves_when_a_gradual_rollout_is_over(percent: int) -> None:
    rest = (TrafficTarget(OLD, 100 - percent),) if percent < 100 else ()
    blue = set_traffic(first(), (*rest, TrafficTarget(LATEST, percent, "next")), 1.5)
    begun = promote(deploy(blue, spec(annotations=GRADUAL), "sha256:b", 2.0), 3.0)

    def tagged(function: Function) -> list[str]:
        return [target.revision for target in function.traffic if target.tag == "next"]

    assert tagged(begun) == ([OLD] if percent else [NEW]), "without a share nothing moves in steps"
    assert sum(target.percent for target in begun.traffic) == 100
    over = begun
    for step in (1, 2):
        over = proceed(over, NEW, step, 4.0 + step)
    assert tagged(over) == [NEW]


def test_going_back_passes_over_what_never_took_over() -> None:
    bad = second()
    good = deploy(bad, spec(), "sha256:c", now=3.0)
    failures = superseded(bad, good)
    assert failures == {NEW: "hello-00002: hello-00003 was deployed before it had taken over"}
    knows = superseded(bad, good, "no module named 'x'")
    assert knows == {NEW: "hello-00002: no module named 'x'; hello-00003 was deployed before it had taken over"}
    served = promote(good, 4.0)
    assert split(roll_back(served, None, failures, 5.0)) == {OLD: 100}
    assert split(roll_back(served, NEW, failures, 5.0)) == {NEW: 100}, "who names it has it"
    assert superseded(served, deploy(served, spec(), "sha256:d", now=5.0)) == {}
    assert superseded(bad, deploy(bad, spec(labels={"com.openfaas.scale.max": "3"}), "sha256:b", now=3.0)) == {}
