from __future__ import annotations

from pathlib import Path

import pytest

from cli import asynchronous, triggers
from cli.outgoing import outgoing
from cli.settings import ServeSettings
from cli.triggers import CannotKeepTime
from gateway.asynchronous.store import QueueFull
from gateway.cloudevents.event import checked
from orchestration.events import FunctionChanged
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound
from orchestration.revision import make_revision
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget


async def no_secret(namespace: str, name: str) -> bytes:
    raise NotFound(f"there is no secret {name!r}")


def function(name: str, **annotations: str) -> FunctionChanged:
    return changed(FunctionSpec(service=name, image=name, annotations={k.replace("_", "."): v for k, v in annotations.items()}))


def changed(spec: FunctionSpec) -> FunctionChanged:
    revision = make_revision(spec, "sha256:0", 1, 0.0)
    traffic = (TrafficTarget(revision=revision.name, percent=100),)
    return FunctionChanged(
        Function(spec=spec, generation=1, revisions=(revision,), traffic=traffic, created_at=0, updated_at=0)
    )


async def test_events_and_timers_share_the_queues_and_their_bounds(tmp_path: Path) -> None:
    settings = ServeSettings(data_dir=str(tmp_path), async_waiting_calls=2)
    async with (
        outgoing(settings, no_secret) as sending,
        asynchronous.opened(settings, tmp_path, sending, lambda sample: None) as calls,
        triggers.opened(settings, calls, lambda function, at: None, leads=False) as made,
    ):
        for change in (function("wants", com_pinnace_events="*"), function("ticks", topic="cron-function", schedule="@daily")):
            calls.apply(change)
            made.apply(change)
        for number in range(2):
            event = checked({"specversion": "1.0", "id": str(number), "source": "/s", "type": "t"}, b"")
            ((delivery,),) = await made.router.accept([event], "openfaas-fn")
            assert delivery.function == "wants"
        with pytest.raises(QueueFull):
            await made.router.accept(
                [checked({"specversion": "1.0", "id": "3", "source": "/s", "type": "t"}, b"")], "openfaas-fn"
            )
        kept = await calls.store.get(delivery.call_id)
        assert kept is not None
        assert kept.function == FunctionId("openfaas-fn", "wants")
        assert "pinnace_events_total" in "".join(made.counted(False))


async def test_an_event_that_one_of_its_functions_has_no_room_for_is_taken_for_none(tmp_path: Path) -> None:
    settings = ServeSettings(data_dir=str(tmp_path))
    async with (
        outgoing(settings, no_secret) as sending,
        asynchronous.opened(settings, tmp_path, sending, lambda sample: None) as calls,
        triggers.opened(settings, calls, lambda function, at: None, leads=False) as made,
    ):
        narrow = FunctionSpec(
            service="narrow", image="x", annotations={"com.pinnace.events": "*", "com.pinnace.async.max-waiting": "1"}
        )
        for change in (function("wide", com_pinnace_events="*"), changed(narrow)):
            calls.apply(change)
            made.apply(change)
        one, other = (checked({"specversion": "1.0", "id": number, "source": "/s", "type": "t"}, b"") for number in ("1", "2"))
        await made.router.accept([one], "openfaas-fn")
        with pytest.raises(QueueFull, match="1 calls of narrow"):
            await made.router.accept([other], "openfaas-fn")
        assert {name: depth.waiting for name, depth in (await calls.store.depths(0.0)).items()} == {
            "narrow.openfaas-fn": 1,
            "wide.openfaas-fn": 1,
        }


async def test_a_book_that_is_none_is_said(tmp_path: Path) -> None:
    settings = ServeSettings(data_dir=str(tmp_path))
    (tmp_path / "timers.db").write_bytes(b"no database" * 100)
    async with (
        outgoing(settings, no_secret) as sending,
        asynchronous.opened(settings, tmp_path, sending, lambda sample: None) as calls,
    ):
        with pytest.raises(CannotKeepTime, match=r"timers\.db: file is not a database"):
            async with triggers.opened(settings, calls, lambda function, at: None, leads=True):
                pass
