from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.store import QueueFull
from gateway.cloudevents import router as module
from gateway.cloudevents.event import Event, checked
from gateway.cloudevents.router import Delivery, Router, TooMany
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.revision import make_revision
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget


class Queue:
    def __init__(self) -> None:
        self.requests: list[list[Submission]] = []
        self.known: dict[tuple[str, str], str] = {}

    async def submit(self, submissions: Sequence[Submission]) -> list[Receipt]:
        self.requests.append(list(submissions))
        receipts = []
        for one in submissions:
            key = (one.queue, one.idempotency_key)
            repeated = key in self.known
            receipts.append(Receipt(self.known.setdefault(key, f"call-{len(self.known)}"), repeated))
        return receipts


def function(name: str, wants: str | None, namespace: str = "openfaas-fn") -> FunctionChanged:
    annotations = {} if wants is None else {"com.pinnace.events": wants}
    spec = FunctionSpec(service=name, image=name, namespace=namespace, annotations=annotations)
    revision = make_revision(spec, "sha256:0", 1, 0.0)
    traffic = (TrafficTarget(revision=revision.name, percent=100),)
    return FunctionChanged(
        Function(spec=spec, generation=1, revisions=(revision,), traffic=traffic, created_at=0, updated_at=0)
    )


def event(kind: str = "com.example.made", number: str = "1") -> Event:
    return checked({"specversion": "1.0", "id": number, "source": "/shop", "type": kind, "subject": "a b"}, b"data")


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def router(queue: Queue) -> Router:
    made = Router(queue.submit)
    for change in (
        function("all", "*"),
        function("made", "type=*.made"),
        function("gone", "type=*.gone"),
        function("deaf", None),
        function("all", "*", "shop"),
    ):
        made.apply(change)
    return made


async def test_each_function_that_wants_it_gets_a_call_in_binary_mode(router: Router, queue: Queue) -> None:
    trace = [("traceparent", "00-1-2-01")]
    assert await router.accept([event()], "openfaas-fn", trace) == [
        [Delivery("all", "openfaas-fn", "call-0", False), Delivery("made", "openfaas-fn", "call-1", False)]
    ]
    (submissions,) = queue.requests
    assert [one.queue for one in submissions] == ["all.openfaas-fn", "made.openfaas-fn"]
    one = submissions[1]
    assert (one.function, one.method, one.path, one.body) == (FunctionId("openfaas-fn", "made"), "POST", "/", b"data")
    assert dict(one.headers) == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/shop",
        "ce-type": "com.example.made",
        "ce-subject": "a%20b",
        "traceparent": "00-1-2-01",
    }
    assert not one.idempotency_key.isprintable()  # so that no client can take it


async def test_the_events_of_a_request_are_kept_in_one_step(router: Router, queue: Queue) -> None:
    made = await router.accept([event(), event("com.example.gone", "2"), event("x", "3")], "openfaas-fn")
    assert [[delivery.function for delivery in one] for one in made] == [["all", "made"], ["all", "gone"], ["all"]]
    assert len(queue.requests) == 1
    assert (router.counts.accepted, router.counts.unmatched, router.counts.delivered) == (3, 0, 5)


async def test_an_event_that_comes_again_is_the_same_call(router: Router) -> None:
    await router.accept([event()], "openfaas-fn")
    (again,) = await router.accept([event()], "openfaas-fn")
    assert [(delivery.call_id, delivery.repeated) for delivery in again] == [("call-0", True), ("call-1", True)]
    (twice, also) = await router.accept([event(number="2"), event(number="2")], "openfaas-fn")
    assert [delivery.call_id for delivery in twice] == [delivery.call_id for delivery in also]
    assert router.counts.delivered == 4


async def test_what_nobody_wants_is_accepted_and_counted(router: Router, queue: Queue) -> None:
    router.apply(FunctionRemoved("openfaas-fn", "all"))
    assert await router.accept([event("x")], "openfaas-fn") == [[]]
    assert await router.accept([event("x")], "elsewhere") == [[]]
    assert await router.accept([], "openfaas-fn") == []
    assert queue.requests == []
    assert (router.counts.accepted, router.counts.unmatched) == (2, 2)


async def test_a_filter_that_is_changed_or_taken_away_holds_at_once(router: Router) -> None:
    router.apply(function("all", "type=never"))
    router.apply(function("made", None))
    router.apply(function("deaf", "*"))
    assert router.wanting(event(), "openfaas-fn") == [FunctionId("openfaas-fn", "deaf")]
    router.apply(function("deaf", "type=bad=*=*"))  # past the API
    assert router.wanting(event(), "openfaas-fn") == []


async def test_what_is_not_kept_is_not_counted(router: Router, queue: Queue) -> None:
    async def full(submissions: Sequence[Submission]) -> list[Receipt]:
        raise QueueFull("full")

    router._submit = full
    with pytest.raises(QueueFull):
        await router.accept([event()], "openfaas-fn")
    assert (router.counts.accepted, router.counts.delivered) == (0, 0)


async def test_one_request_makes_a_bounded_number_of_calls(
    router: Router, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CALLS", 3)
    with pytest.raises(TooMany, match="4 calls: at most 3"):
        await router.accept([event(number="1"), event(number="2")], "openfaas-fn")
    assert queue.requests == []
