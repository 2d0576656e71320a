"""The whole path with real processes: deploy, ready, call, scale, stop, start again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestration.events import FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.local.failures import StorageFull
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.local.store import Store
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.orchestrator import AlreadyExists, LogQuery, Namespace, NotFound, Refused
from orchestration.replica import ReplicaState
from orchestration.rollout import Condition, NothingToMove, Phase
from orchestration.settings import InvalidSetting
from orchestration.spec import Resources
from orchestration.traffic import FOLLOWING, TrafficTarget
from tests.orchestration.local.world import Bundles, Watch, alive, get, spec, until, watching

HELLO = FunctionId(DEFAULT_NAMESPACE, "hello")


async def test_a_deployed_function_answers(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    function = await orchestrator.apply(spec(env_vars={"BOTH": "function", "PINNACE_LOG_FRAMES": "0", "exec_timeout": "5s"}))
    await watch.until(watch.running)
    replica = watch.running()[0]
    assert replica.revision == function.newest.name == "hello-00001"
    expected = {
        "FROM_BUNDLE": "bundle",
        "BOTH": "function",
        "PINNACE_LOG_FRAMES": "1",
        "exec_timeout": "5s",
        "max_inflight": "100",
        "OPENFAAS_NAME": "hello",
        "OPENFAAS_NAMESPACE": DEFAULT_NAMESPACE,
        "K_REVISION": "hello-00001",
    }
    assert {name: (await get(replica, f"/env/{name}"))[1] for name in expected} == expected
    status = orchestrator.status(HELLO)
    assert (status.replicas, status.available, status.condition.phase) == (1, 1, Phase.READY)


async def test_a_watcher_sees_the_function_then_its_replica_in_each_state(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    function = await orchestrator.apply(spec())
    await watch.until(watch.running)
    await orchestrator.remove(HELLO)
    await watch.until(lambda: any(r.state is ReplicaState.STOPPED for r in watch.replicas.values()))
    told = [e.replica.state.value if isinstance(e, ReplicaChanged) else type(e).__name__ for e in watch.events]
    assert told == ["FunctionChanged", "Pending", "Running", "FunctionRemoved", "Draining", "Stopped"]
    assert watch.events[0] == FunctionChanged(function)
    with pytest.raises(NotFound):
        orchestrator.status(HELLO)


async def test_a_late_watcher_starts_with_everything_there_is(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    async with watching(orchestrator) as late:
        await late.until(late.running)
        assert [type(e) for e in late.events] == [FunctionChanged, ReplicaChanged]


async def test_scale_to_zero_and_back(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    function = await orchestrator.apply(spec())
    await watch.until(watch.running)
    pid = watch.running()[0].pid
    assert pid is not None
    await orchestrator.scale(function.newest.key, 0)
    await watch.until(lambda: all(r.state is ReplicaState.STOPPED for r in watch.replicas.values()))
    assert not alive(pid)
    status = orchestrator.status(HELLO)
    assert (status.replicas, status.available, status.instances, status.condition.phase) == (0, 0, (), Phase.READY)
    await orchestrator.scale(function.newest.key, 3)
    await watch.until(lambda: len(watch.running()) == 3)
    victim = watch.running()[1].id
    await orchestrator.scale(function.newest.key, 2, victims=[victim])
    await watch.until(lambda: watch.replicas[victim].state is ReplicaState.STOPPED)
    assert len(watch.running()) == 2


async def test_a_draining_replica_lives_until_it_is_released(orchestrator: LocalOrchestrator) -> None:
    async with watching(orchestrator, release=False) as watch:
        function = await orchestrator.apply(spec())
        await watch.until(watch.running)
        replica = watch.running()[0]
        await orchestrator.scale(function.newest.key, 0)
        await watch.until(lambda: watch.replicas[replica.id].state is ReplicaState.DRAINING)
        assert (await get(replica, "/still"))[1] == "ok"
        orchestrator.released(replica.id)
        await watch.until(lambda: watch.replicas[replica.id].state is ReplicaState.STOPPED)


async def test_a_new_revision_takes_over_when_its_replicas_are_ready(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    first = await orchestrator.apply(spec())
    await watch.until(watch.running)
    await orchestrator.scale(first.newest.key, 2)
    await watch.until(lambda: len(watch.running()) == 2)
    second = await orchestrator.apply(spec(image="good:2"), create=False)
    assert second.serving.name == "hello-00001"
    await watch.until(lambda: len(watch.running("00002")) == 2 and not watch.running("00001"))
    kinds = [
        (e.function.serving.name if isinstance(e, FunctionChanged) else (e.replica.revision, e.replica.state.value))
        for e in watch.events
        if not isinstance(e, FunctionRemoved)
    ]
    moved = kinds.index("hello-00002")
    assert kinds[:moved].count(("hello-00002", "Running")) == 2
    assert ("hello-00001", "Draining") not in kinds[:moved]
    assert orchestrator.status(HELLO).replicas == 2


async def test_a_rollout_takes_over_what_was_scaled_up_meanwhile(orchestrator: LocalOrchestrator) -> None:
    async with watching(orchestrator) as watch:
        first = await orchestrator.apply(spec())
        await watch.until(watch.running)
        await orchestrator.apply(spec(image="good:2"))
        await orchestrator.scale(first.newest.key, 3)
        await watch.until(lambda: len(watch.running("00002")) == 3 and not watch.running("00001"))
        assert orchestrator.status(HELLO).replicas == 3


async def test_a_revision_that_gets_no_calls_any_more_is_not_scaled_up(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    """As whoever scales may ask for, not yet knowing that traffic has moved: nobody would take the replicas away again."""
    first = await orchestrator.apply(spec())
    await watch.until(watch.running)
    await orchestrator.apply(spec(image="good:2"))
    await watch.until(lambda: watch.running("00002") and not watch.running("00001"))
    await until(lambda: len(orchestrator.status(HELLO).instances) == 1)
    with pytest.raises(NotFound, match="gets no calls any more"):
        await orchestrator.scale(first.newest.key, 3)
    await orchestrator.scale(first.newest.key, 0)
    assert len(orchestrator.status(HELLO).instances) == 1


async def test_the_newest_of_several_deploys_wins(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    await asyncio.gather(*(orchestrator.apply(spec(image=f"good:{n}")) for n in range(2, 6)))
    await watch.until(lambda: watch.running("00005") and len(watch.running()) == 1)
    await until(lambda: len(orchestrator.status(HELLO).instances) == 1)
    assert orchestrator.status(HELLO).function.serving.name == "hello-00005"


async def test_a_full_disk_refuses_a_deploy_and_everything_else_goes_on(
    orchestrator: LocalOrchestrator, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = await orchestrator.apply(spec())
    await watch.until(watch.running)

    async def full(*_: object) -> None:
        raise StorageFull("the disk is full: nothing was changed")

    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(StorageFull):
        await orchestrator.apply(spec(image="good:2"))
    assert orchestrator.status(HELLO).function == function
    assert (await get(watch.running()[0], "/x"))[0] == 200


async def test_a_full_disk_keeps_no_caller_waiting_and_says_that_the_count_is_not_durable(
    orchestrator: LocalOrchestrator, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = (await orchestrator.apply(spec())).serving.key
    await watch.until(watch.running)

    async def full(*_: object) -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(Store, "want", full)
    with pytest.raises(StorageFull, match="is scaled to 2, but only until the platform ends: the disk is full"):
        await orchestrator.scale(revision, 2)
    await watch.until(lambda: len(watch.running()) == 2)
    assert orchestrator.status(HELLO).replicas == 2
    monkeypatch.undo()
    await orchestrator.scale(revision, 2)


async def test_a_function_made_anew_shows_nothing_of_an_earlier_one_of_its_name(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    orchestrator.say(HELLO, "old", "of the old one")

    async def lines() -> list[str]:
        return [line.instance async for line in orchestrator.logs(LogQuery(function=HELLO))]

    async with asyncio.timeout(10):
        while "old" not in await lines():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    await orchestrator.remove(HELLO)
    assert "old" in await lines()
    await orchestrator.apply(spec())
    async with asyncio.timeout(10):
        while "old" in await lines():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def test_a_broken_revision_never_gets_traffic_and_says_why(place: Path, bundles: Bundles) -> None:
    async with (
        LocalOrchestrator.open(place / "data", bundles, ready_within_s=1.0) as orchestrator,
        watching(orchestrator) as watch,
    ):
        first = await orchestrator.apply(spec())
        await watch.until(watch.running)
        await orchestrator.scale(first.newest.key, 0)
        await orchestrator.apply(spec(image="good:2", env_vars={"FAIL": "handler.py, line 3: no module named 'nope'"}))
        await watch.until(lambda: any(r.reason for r in watch.replicas.values()))
        condition = orchestrator.status(HELLO).condition
        assert (condition.phase, condition.message) == (Phase.PROGRESSING, "handler.py, line 3: no module named 'nope'")
        await until(lambda: orchestrator.status(HELLO).condition.phase is Phase.FAILED)
        status = orchestrator.status(HELLO)
        assert status.condition.message == "hello-00002: handler.py, line 3: no module named 'nope'"
        assert status.function.serving.name == "hello-00001"
        await until(lambda: orchestrator.status(HELLO).instances == ())
    async with LocalOrchestrator.open(place / "data", bundles) as again:
        assert again.status(HELLO).condition.phase is Phase.FAILED
        async with watching(again) as watch:
            await again.apply(spec(image="good:3"))
            await watch.until(lambda: watch.running("00003"))
            await until(lambda: again.status(HELLO).condition.phase is Phase.READY)


async def test_each_revision_says_its_own_trouble_also_when_another_was_deployed_meanwhile(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    why = "handler.py, line 3: no module named 'nope'"
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    await orchestrator.apply(spec(image="good:2", env_vars={"FAIL": why}))
    await until(lambda: orchestrator.status(HELLO).troubles)
    assert orchestrator.status(HELLO).troubles == {"hello-00002": why}
    await orchestrator.set_traffic(HELLO, (TrafficTarget("hello-00001", 90), TrafficTarget("hello-00002", 10)))
    await orchestrator.apply(spec(image="good:3"))
    await watch.until(lambda: watch.running("00003"))
    status = orchestrator.status(HELLO)
    assert status.failures == {"hello-00002": f"hello-00002: {why}; hello-00003 was deployed before it had taken over"}
    assert status.troubles == {"hello-00002": why}, "it has a share of the calls, and is tried on"


async def test_the_only_revision_is_tried_for_ever(place: Path, bundles: Bundles) -> None:
    async with LocalOrchestrator.open(place / "data", bundles, ready_within_s=0.5) as orchestrator:
        await orchestrator.apply(spec(env_vars={"EXIT": "3"}))
        await until(lambda: orchestrator.status(HELLO).condition.phase is Phase.FAILED)
        status = orchestrator.status(HELLO)
        assert status.condition.message == "exited with status 3: last words"
        (replica,) = status.instances
        assert (replica.state, replica.restarts) == (ReplicaState.CRASH_LOOP, 2)
        lines = [line.text async for line in orchestrator.logs(LogQuery(function=HELLO))]
        assert sorted(lines) == ["last words", "last words", "starting", "starting"]


async def test_settings_of_the_function_change_without_a_new_revision(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    changed = await orchestrator.apply(spec(labels={"com.openfaas.scale.max": "7"}))
    assert (len(changed.revisions), changed.generation) == (1, 2)
    assert orchestrator.status(HELLO).function == changed
    called = {"topic": "cron-function", "schedule": "@hourly", "com.pinnace.events": "type=x"}
    changed = await orchestrator.apply(spec(annotations=called))
    assert (len(changed.revisions), changed.generation) == (1, 3)


@pytest.mark.parametrize(
    ("fields", "create", "error", "text"),
    [
        ({"image": "bad:1"}, None, Refused, "no bundle is called 'bad:1'"),
        ({"namespace": "nowhere"}, None, NotFound, "there is no namespace 'nowhere'"),
        ({"secrets": ("a", "b")}, None, Refused, "secret a, b does not exist"),
        ({"labels": {"com.openfaas.scale.min": "x"}}, None, InvalidSetting, "a whole number"),
        ({"limits": Resources(memory="64m")}, None, InvalidSetting, "did you mean 64Mi"),
        ({"env_vars": {"A": "\0"}}, None, InvalidSetting, "NUL"),
        ({}, False, NotFound, "there is no function 'hello'"),
    ],
)
async def test_what_cannot_be_deployed_is_refused(
    orchestrator: LocalOrchestrator, fields: dict[str, object], create: bool | None, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await orchestrator.apply(spec(**fields), create=create)  # type: ignore[arg-type]
    assert orchestrator.statuses(DEFAULT_NAMESPACE) == []


async def test_create_wants_a_new_function(orchestrator: LocalOrchestrator) -> None:
    await orchestrator.apply(spec(), create=True)
    with pytest.raises(AlreadyExists):
        await orchestrator.apply(spec(), create=True)


async def test_everything_is_there_after_a_start(place: Path, bundles: Bundles) -> None:
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator:
        await orchestrator.create_namespace(Namespace("other", labels={"a": "b"}))
        one = await orchestrator.apply(spec("one", env_vars={"A": "1"}))
        two = await orchestrator.apply(spec("two", namespace="other"))
        await orchestrator.scale(two.newest.key, 0)
        await orchestrator.create_secret("other", "key", b"value")
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        await watch.until(watch.running)
        assert [r.function for r in watch.replicas.values()] == ["one"]
        assert orchestrator.status(one.id).function == one
        assert orchestrator.status(two.id).replicas == 0
        assert await orchestrator.secrets("other") == ["key"]
        assert [n.name for n in await orchestrator.namespaces()] == [DEFAULT_NAMESPACE, "other"]


async def test_a_namespace_with_functions_stays(orchestrator: LocalOrchestrator) -> None:
    await orchestrator.create_namespace(Namespace("other"))
    function = await orchestrator.apply(spec(namespace="other"))
    with pytest.raises(Refused, match="hello"):
        await orchestrator.delete_namespace("other")
    await orchestrator.remove(function.id)
    await orchestrator.delete_namespace("other")
    with pytest.raises(NotFound):
        orchestrator.statuses("other")
    with pytest.raises(Refused):
        await orchestrator.delete_namespace(DEFAULT_NAMESPACE)


async def test_a_secret_in_use_stays_and_a_new_value_rolls_the_replicas(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"old")
    await orchestrator.apply(spec(secrets=("key",)))
    await watch.until(watch.running)
    before = watch.running()[0]
    folder = (await get(before, "/env/secret_mount_path"))[1]
    assert await get(before, f"/file{folder}/key") == (200, "old")
    with pytest.raises(Refused, match="used by hello"):
        await orchestrator.delete_secret(DEFAULT_NAMESPACE, "key")
    await orchestrator.update_secret(DEFAULT_NAMESPACE, "key", b"new")
    await watch.until(lambda: watch.replicas[before.id].state is ReplicaState.STOPPED)
    (after,) = watch.running()
    folder = (await get(after, "/env/secret_mount_path"))[1]
    assert await get(after, f"/file{folder}/key") == (200, "new")
    order = [(e.replica.id, e.replica.state) for e in watch.events if isinstance(e, ReplicaChanged)]
    assert order.index((after.id, ReplicaState.RUNNING)) < order.index((before.id, ReplicaState.DRAINING))


async def test_a_secret_that_signs_callbacks_must_be_there_and_rolls_nothing(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    signed = spec(annotations={"com.pinnace.callback.secret": "hooks"})
    with pytest.raises(Refused, match="secret hooks does not exist"):
        await orchestrator.apply(signed)
    with pytest.raises(NotFound, match="no secret 'hooks'"):
        await orchestrator.secret_value(DEFAULT_NAMESPACE, "hooks")
    await orchestrator.create_secret(DEFAULT_NAMESPACE, "hooks", b"old")
    await orchestrator.apply(signed)
    await watch.until(watch.running)
    before = watch.running()
    with pytest.raises(Refused, match="used by hello"):
        await orchestrator.delete_secret(DEFAULT_NAMESPACE, "hooks")
    await orchestrator.update_secret(DEFAULT_NAMESPACE, "hooks", b"new\nold")
    assert await orchestrator.secret_value(DEFAULT_NAMESPACE, "hooks") == b"new\nold"
    function = await orchestrator.apply(spec())
    assert len(function.revisions) == 1
    await orchestrator.delete_secret(DEFAULT_NAMESPACE, "hooks")
    assert [replica.id for replica in watch.running()] == [replica.id for replica in before]


async def test_a_program_without_notify_is_ready_when_it_answers(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec(env_vars={"MUTE": "1"}))
    await watch.until(watch.running)
    assert (await get(watch.running()[0], "/x"))[1] == "ok"


async def test_a_replica_that_ends_is_started_again_at_once(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    replica = watch.running()[0]
    with pytest.raises(asyncio.IncompleteReadError):
        await get(replica, "/exit/7")
    await watch.until(lambda: watch.running() and watch.running()[0].restarts == 1)
    assert watch.running()[0].pid != replica.pid
    reasons = [e.replica.reason for e in watch.events if isinstance(e, ReplicaChanged) and e.replica.reason]
    assert reasons == ["exited with status 7: going down"]


async def test_two_hundred_functions_are_listed_quickly(orchestrator: LocalOrchestrator) -> None:
    async def deploy(number: int) -> None:
        function = await orchestrator.apply(spec(f"f{number}"))
        await orchestrator.scale(function.newest.key, 0)

    await asyncio.gather(*(deploy(n) for n in range(200)))
    loop = asyncio.get_running_loop()
    took_s = []
    for _ in range(5):  # the quickest counts: other work of the machine takes the processor away now and then
        began = loop.time()
        assert len(orchestrator.statuses(DEFAULT_NAMESPACE)) == 200
        took_s.append(loop.time() - began)
    assert min(took_s) < 0.05


async def test_usage_is_known_while_a_replica_runs(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    burning = asyncio.create_task(get(watch.running()[0], "/burn/1"))
    usage = await orchestrator.usage(HELLO)
    await burning
    assert usage is not None
    assert usage.memory_bytes > 1_000_000
    assert usage.cpu_millicores > 100


async def test_what_replicas_used_is_added_up_and_does_not_go_with_them(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    function = await orchestrator.apply(spec())
    await watch.until(watch.running)
    await get(watch.running()[0], "/burn/0.2")
    first = (await orchestrator.consumption())[HELLO]
    assert first.cpu_s > 0
    assert first.memory_bytes > 1_000_000
    await orchestrator.scale(function.newest.key, 0)
    await watch.until(lambda: not watch.running())
    later = (await orchestrator.consumption())[HELLO]
    assert later.cpu_s >= first.cpu_s
    await orchestrator.remove(HELLO)
    assert HELLO not in await orchestrator.consumption()


async def test_a_secret_is_either_taken_away_or_used_never_both(orchestrator: LocalOrchestrator) -> None:
    for turn in range(10):
        name = f"key{turn}"
        await orchestrator.create_secret(DEFAULT_NAMESPACE, name, b"value")
        both = (
            orchestrator.apply(spec(f"user{turn}", secrets=(name,))),
            orchestrator.delete_secret(DEFAULT_NAMESPACE, name),
        )
        deployed, deleted = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(deployed, Refused) != isinstance(deleted, Refused), (deployed, deleted)


async def test_a_secret_of_a_revision_that_gets_a_few_calls_stays(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"value")
    await orchestrator.apply(spec(secrets=("key",)))
    for image in ("good:2", "good:3"):
        await orchestrator.apply(spec(image=image))
    await watch.until(lambda: watch.running("00003"))
    await orchestrator.set_traffic(HELLO, (TrafficTarget("hello-00002", 99), TrafficTarget("hello-00001", 1)))
    with pytest.raises(Refused, match="secret 'key' is used by hello"):
        await orchestrator.delete_secret(DEFAULT_NAMESPACE, "key")
    await orchestrator.set_traffic(HELLO, FOLLOWING)
    await orchestrator.delete_secret(DEFAULT_NAMESPACE, "key")


async def test_a_namespace_made_anew_holds_no_old_secrets(orchestrator: LocalOrchestrator) -> None:
    await orchestrator._namespaces._secrets.create("dev", "old", b"left by a removal that was cut short")
    await orchestrator.create_namespace(Namespace("dev"))
    assert await orchestrator.secrets("dev") == []


async def test_calls_are_split_tagged_rolled_back_and_follow_the_newest_again(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    first = await orchestrator.apply(spec())
    await watch.until(watch.running)
    await orchestrator.scale(first.newest.key, 2)
    await orchestrator.apply(spec(image="good:2"))
    await watch.until(lambda: len(watch.running("00002")) == 2 and not watch.running("00001"))

    await orchestrator.set_traffic(HELLO, (TrafficTarget("hello-00001", 50), TrafficTarget("hello-00002", 50)))
    await watch.until(lambda: watch.running("00001"))
    assert orchestrator.status(HELLO).wanted == {"hello-00001": 1, "hello-00002": 2}

    await orchestrator.set_traffic(HELLO, (TrafficTarget("hello-00002", 100), TrafficTarget("hello-00001", 0, "old")))
    assert orchestrator.status(HELLO).wanted["hello-00001"] == 1, "what is tagged may go on"
    await orchestrator.scale(first.newest.key, 0)
    await watch.until(lambda: not watch.running("00001"))
    await orchestrator.scale(first.newest.key, 1)
    await watch.until(lambda: watch.running("00001"))

    await orchestrator.roll_back(HELLO)
    await watch.until(lambda: len(watch.running("00001")) == 3 and not watch.running("00002"))
    await orchestrator.apply(spec(image="good:3"))
    await watch.until(lambda: orchestrator.status(HELLO).function.latest_ready == "hello-00003")
    status = orchestrator.status(HELLO)
    assert status.function.serving.name == "hello-00001"
    assert status.condition.phase is Phase.READY
    assert "hello-00003 gets no calls" in status.condition.message
    await watch.until(lambda: not watch.running("00003"))

    await orchestrator.follow(HELLO)
    await watch.until(lambda: len(watch.running("00003")) == 3)
    assert orchestrator.status(HELLO).wanted["hello-00001"] == 3, "its tag is still there: whoever scales lets it go"


async def test_tables_and_the_step_of_a_rollout_survive_a_restart(place: Path, bundles: Bundles) -> None:
    gradual = {"com.pinnace.rollout.duration": "10m"}
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        await orchestrator.apply(spec(annotations=gradual))
        await watch.until(watch.running)
        await orchestrator.apply(spec(image="good:2", annotations=gradual))
        await watch.until(lambda: orchestrator.status(HELLO).function.gradual is not None)
        await orchestrator.proceed(HELLO, "hello-00002", 1)
        before = orchestrator.status(HELLO).function
        assert [t.percent for t in before.traffic] == [75, 25]
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        assert orchestrator.status(HELLO).function == before
        await watch.until(lambda: watch.running("00001") and watch.running("00002"))
        assert "hello-00002 gets 25 % of the calls (step 2 of 3)" in orchestrator.status(HELLO).condition.message
        await orchestrator.abort(HELLO, "hello-00002", "9 of 9 calls failed")
        await watch.until(lambda: not watch.running("00002"))
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator:
        status = orchestrator.status(HELLO)
        assert status.function.serving.name == "hello-00001"
        assert status.condition == Condition(Phase.FAILED, "hello-00002: 9 of 9 calls failed")
        with pytest.raises(NothingToMove):
            await orchestrator.follow(HELLO)


async def test_who_changes_traffic_of_what_is_not_there_is_told(orchestrator: LocalOrchestrator) -> None:
    for change in (
        orchestrator.set_traffic(HELLO, FOLLOWING),
        orchestrator.roll_back(HELLO),
        orchestrator.follow(HELLO),
        orchestrator.proceed(HELLO, "hello-00001", 1),
        orchestrator.abort(HELLO, "hello-00001", "why"),
    ):
        with pytest.raises(NotFound):
            await change


async def test_calls_do_not_go_back_to_a_revision_whose_secret_is_gone(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"1")
    await orchestrator.apply(spec(secrets=("key",)))
    await watch.until(watch.running)
    await orchestrator.apply(spec(image="good:2"))
    await watch.until(lambda: watch.running("00002") and not watch.running("00001"))
    await orchestrator.set_traffic(HELLO, (TrafficTarget("hello-00002", 100), TrafficTarget("hello-00001", 0, "old")))
    with pytest.raises(Refused, match="is used by hello"):
        await orchestrator.delete_secret(DEFAULT_NAMESPACE, "key")
    await orchestrator.follow(HELLO)
    await orchestrator.set_traffic(HELLO, FOLLOWING)
    await orchestrator.delete_secret(DEFAULT_NAMESPACE, "key")
    with pytest.raises(Refused, match="hello-00001 uses what does not exist: secret key"):
        await orchestrator.roll_back(HELLO)
    assert orchestrator.status(HELLO).function.serving.name == "hello-00002"


async def test_a_secret_is_either_taken_away_or_calls_go_back_to_who_needs_it(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"value")
    await orchestrator.apply(spec(secrets=("key",)))
    await watch.until(watch.running)
    await orchestrator.apply(spec(image="good:2"))
    await watch.until(lambda: watch.running("00002") and not watch.running("00001"))
    for turn in range(10):
        changes = [orchestrator.roll_back(HELLO, "hello-00001"), orchestrator.delete_secret(DEFAULT_NAMESPACE, "key")]
        one, other = await asyncio.gather(*(changes if turn % 2 else reversed(changes)), return_exceptions=True)
        assert isinstance(one, Refused) != isinstance(other, Refused), (one, other)
        await orchestrator.follow(HELLO)
        if "key" not in await orchestrator.secrets(DEFAULT_NAMESPACE):
            await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"value")
