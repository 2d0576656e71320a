"""Callbacks as workers carry them out: signed, judged, counted, and kept in the step in which their call ends."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from gateway.asynchronous.caller import Response
from gateway.asynchronous.calls import Body, Call, Headers, Lease, Outcome, State, Submission, queue_of
from gateway.asynchronous.carrier import Execution
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.retry import Answer as Answered
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.callbacks.addresses import Allowed
from gateway.callbacks.callback import KIND
from gateway.callbacks.callbacks import QUEUE, Callbacks, Fate
from gateway.callbacks.keys import Keys
from gateway.callbacks.sending import Answer, Sender
from gateway.callbacks.signature import sign
from gateway.callbacks.target import Guard, InvalidCallback
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec

NOW = 1_767_225_600.5
GUARD = Guard(Allowed(["public"]))
HELLO = FunctionId("openfaas-fn", "hello")
URL = "http://example.com/done"


async def secret_value(namespace: str, name: str) -> bytes:
    if (namespace, name) != ("openfaas-fn", "hooks"):
        raise NotFound(f"there is no secret {name!r} in namespace {namespace!r}")
    return b"new\nold\n"


KEYS = Keys((b"key",), secret_value)


class FakeSender(Sender):
    """Answers in turn; the last answer stays."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, dict[str, str], bytes]] = []

    async def send(
        self, url: str, headers: Sequence[tuple[str, str]], body: Callable[[], AsyncIterator[bytes]], size: int
    ) -> Answer:
        whole = b"".join([piece async for piece in body()])
        assert len(whole) == size
        self.sent.append((url, dict(headers), whole))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def chunks(body: Body) -> AsyncIterator[bytes]:
    yield b"the "
    yield b"body"


def call() -> Call:
    return Call(
        id="0197-2",
        queue="hello.openfaas-fn#callback",
        function=HELLO,
        state=State.RUNNING,
        method="POST",
        path="/",
        headers=(("X-Call-Id", "0197-1"), ("X-Function-Status", "200")),
        body=Body(8, None),
        url=URL,
        submitted=NOW,
        due=NOW,
        attempts=1,
    )


def callbacks(*answers: Answer) -> tuple[Callbacks, FakeSender]:
    sender = FakeSender(*answers)
    return Callbacks(GUARD, sender, KEYS, Functions({KIND: QUEUE}), chunks, 3600, lambda: NOW), sender


async def test_each_attempt_is_signed_with_its_own_time() -> None:
    carrier, sender = callbacks(Answer(204))
    response = await carrier.carry(call())
    ((url, headers, body),) = sender.sent
    assert (url, body) == (URL, b"the body")
    assert headers["X-Pinnace-Timestamp"] == "1767225600"
    assert headers["X-Pinnace-Signature"] == sign([b"key"], "0197-1", "200", 1767225600, [b"the body"])
    assert response.answer == Answered(204)


def test_a_submission_is_looked_at() -> None:
    carrier, _ = callbacks(Answer(200))
    carrier.check(())
    carrier.check((("x-callback-url", URL),))
    with pytest.raises(InvalidCallback, match="are not allowed here"):
        carrier.check((("X-Callback-Url", "http://127.0.0.1/"),))


class Lab:
    """A store, and an execution whose function answers `hello` and whose callbacks go to `sender`; `now` is its clock."""

    def __init__(
        self, folder: Path, *answers: Answer, result: bytes = b"hello", keys: Keys = KEYS, headers: Headers = ()
    ) -> None:
        self.now = NOW
        self.store = SqliteStore(folder)
        self.functions = Functions({KIND: QUEUE})
        self.sender = FakeSender(*answers)
        self.callbacks = Callbacks(GUARD, self.sender, keys, self.functions, self.store.chunks, 3600, lambda: self.now)
        self.result, self.headers = result, headers
        self.execution = Execution(
            self.store,
            self.functions,
            {"": self, KIND: self.callbacks},
            follow=self.callbacks.follow,
            attempted=self.callbacks.attempted,
            clock=lambda: self.now,
            chance=lambda: 1.0,
        )

    async def carry(self, call: Call) -> Response:
        """The function."""
        body: bytes | Path = self.result
        if len(self.result) > 65536:
            body = self.store.spool / "result"
            body.write_bytes(self.result)
        return Response(answer=Answered(200, (("Content-Type", "text/plain"), *self.headers)), body=body)

    async def submit(self, url: str = URL, expires: float = 0.0) -> str:
        wanted = Submission(queue=queue_of(HELLO), function=HELLO, headers=(("X-Callback-Url", url),), expires=expires)
        (receipt,) = await self.store.submit([wanted], self.now)
        return receipt.id

    async def work(self) -> list[Call]:
        """Carry out all that is due now; return what was taken."""
        taken = []
        while calls := await self.store.take(lambda queue: 10, 10, self.now, 30):
            for one in calls:
                await self.execution.run(one)
            taken += calls
        return taken

    async def callback(self) -> Call:
        (found,) = await self.store.page("hello.openfaas-fn#callback")
        return found


async def test_a_call_that_ends_is_told_of(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200))
    call_id = await lab.submit()
    await lab.work()
    ((url, headers, body),) = lab.sender.sent
    assert (url, body) == (URL, b"hello")
    assert (headers["X-Call-Id"], headers["X-Function-Status"], headers["X-Function-Name"]) == (call_id, "200", "hello")
    assert (headers["X-Retry"], headers["X-Retry-Max"], headers["Content-Type"]) == ("1", "10", "text/plain")
    assert lab.callbacks.counts == {Fate.SENT: 1, Fate.RETRIED: 0, Fate.FAILED: 0, Fate.REFUSED: 0}
    assert (await lab.callback()).state is State.SUCCEEDED
    await lab.store.close()


async def test_a_call_that_expired_before_it_began_is_told_of(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200))
    call_id = await lab.submit(expires=NOW + 60)
    lab.now += 60
    await lab.work()
    ((_, headers, body),) = lab.sender.sent
    assert body == b""
    assert {name: headers[name] for name in ("X-Call-Id", "X-Function-Status", "X-Retry", "X-Call-State", "X-Call-Reason")} == {
        "X-Call-Id": call_id,
        "X-Function-Status": "503",
        "X-Retry": "0",
        "X-Call-State": "dead",
        "X-Call-Reason": "expired before it could be carried out",
    }
    await lab.store.close()


@pytest.mark.parametrize(("attempts", "tried"), [(0, "0"), (1, "1")])
async def test_a_call_that_is_cancelled_is_told_of_in_the_same_step(tmp_path: Path, attempts: int, tried: str) -> None:
    lab = Lab(tmp_path, Answer(200))
    call_id = await lab.submit()
    for _ in range(attempts):
        (taken,) = await lab.store.take(lambda queue: 1, 1, lab.now, 30)
        failed = Outcome(status=500, headers=(("X-Mine", "no"),), reason="it failed", started=NOW, ended=NOW + 2)
        assert await lab.store.retry(taken.lease, NOW + 60, failed, NOW)
    found = await lab.store.get(call_id)
    assert found is not None
    assert await lab.store.cancel(call_id, NOW, then=lab.callbacks.cancelled(found)) is State.WAITING
    await lab.work()
    ((url, headers, body),) = lab.sender.sent
    assert (url, body) == (URL, b"")
    assert {name: value for name, value in headers.items() if not name.startswith("X-Pinnace")} == {
        "X-Call-Id": call_id,
        "X-Function-Name": "hello",
        "X-Function-Status": "503",
        "X-Duration-Seconds": f"{2.0 * attempts:.6f}",
        "X-Retry": tried,
        "X-Retry-Max": "10",
        "X-Call-State": "cancelled",
        "X-Call-Reason": "cancelled",
        "User-Agent": "Pinnace-Callback",
    }
    await lab.store.close()


async def test_nobody_is_told_of_a_cancelled_callback(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(503))
    await lab.submit()
    await lab.work()
    assert lab.callbacks.cancelled(await lab.callback()) == ()
    assert lab.callbacks.cancelled(msgspec.structs.replace(call(), url="", headers=())) == ()
    await lab.store.close()


@pytest.mark.parametrize("links", [True, False])
async def test_a_long_result_belongs_to_the_call_and_to_the_callback(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*paths: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr("os.link", refused)
    lab = Lab(tmp_path, Answer(200), result=b"x" * 100_000)
    call_id = await lab.submit()
    await lab.work()
    assert lab.sender.sent[0][2] == b"x" * 100_000
    kept = await lab.store.get(call_id)
    assert kept is not None
    assert b"".join([piece async for piece in lab.store.chunks(kept.result)]) == b"x" * 100_000
    await lab.store.close()


async def test_a_platform_that_dies_between_the_end_and_the_callback_sends_it_when_it_is_back(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200))
    await lab.submit()
    (first,) = await lab.store.take(lambda queue: 10, 1, lab.now, 30)
    await lab.execution.run(first)
    assert lab.sender.sent == []
    await lab.store.close()
    again = await asyncio.to_thread(Lab, tmp_path, Answer(200))
    await again.work()
    assert len(again.sender.sent) == 1
    await again.store.close()


async def test_a_receiver_that_is_away_is_tried_again_until_its_time_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path, Answer(reason="cannot connect: refused"))
    await lab.submit()
    waits = []
    while True:
        await lab.work()
        found = await lab.callback()
        if found.state is not State.WAITING:
            break
        waits.append(found.due - lab.now)
        lab.now = found.due
    assert found.state is State.DEAD
    assert found.outcome is not None
    assert found.outcome.reason.startswith("cannot connect: refused")
    assert waits[:6] == pytest.approx([1, 1, 1, 1, 1, 1]) or waits == sorted(waits)
    assert max(waits) <= 300
    assert 3000 < sum(waits) <= 3600
    assert lab.callbacks.counts[Fate.RETRIED] == len(waits)
    assert lab.callbacks.counts[Fate.FAILED] == 1
    await lab.store.close()


@pytest.mark.parametrize(
    ("answer", "fate", "reason"),
    [
        (Answer(404), Fate.FAILED, "the receiver answered 404"),
        (Answer(307), Fate.FAILED, "the receiver answered 307"),
        (Answer(reason="a.example has no address that callbacks may go to", refused=True), Fate.REFUSED, "has no address"),
    ],
)
async def test_a_last_word_is_one(
    tmp_path: Path, answer: Answer, fate: Fate, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path, answer)
    await lab.submit()
    with caplog.at_level(logging.WARNING):
        await lab.work()
    found = await lab.callback()
    assert found.state is State.DEAD
    assert found.outcome is not None
    assert reason in found.outcome.reason
    assert lab.callbacks.counts == {**dict.fromkeys(Fate, 0), fate: 1}
    assert "is given up" in caplog.text
    await lab.store.close()


async def test_the_receivers_wish_is_kept(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(503, retry_after="60"), Answer(200))
    await lab.submit()
    await lab.work()
    assert (await lab.callback()).due == NOW + 60
    lab.now += 60
    await lab.work()
    assert [lab.callbacks.counts[fate] for fate in (Fate.RETRIED, Fate.SENT)] == [1, 1]
    await lab.store.close()


def signed_by(name: str) -> FunctionChanged:
    spec = FunctionSpec(service="hello", image="x", annotations={"com.pinnace.callback.secret": name})
    return FunctionChanged(deploy(None, spec, "sha256:0", 0.0))


async def test_a_function_names_the_secret_that_signs_and_all_its_keys_do(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200))
    lab.functions.apply(signed_by("hooks"))
    call_id = await lab.submit()
    await lab.work()
    ((_, headers, body),) = lab.sender.sent
    at = int(headers["X-Pinnace-Timestamp"])
    assert headers["X-Pinnace-Signature"] == sign([b"new", b"old"], call_id, "200", at, [body])
    assert "X-Pinnace-Signed-By" not in headers
    await lab.store.close()


async def test_a_callback_is_signed_as_was_to_be_when_its_call_ended(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(503), Answer(200))
    lab.functions.apply(signed_by("hooks"))
    await lab.submit()
    await lab.work()
    lab.functions.apply(FunctionRemoved("openfaas-fn", "hello"))
    lab.now += 10
    await lab.work()
    assert [len(headers["X-Pinnace-Signature"].split()) for _, headers, _ in lab.sender.sent] == [2, 2]
    await lab.store.close()


async def test_without_its_secret_a_callback_waits_and_is_not_signed_by_another_one(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200))
    lab.functions.apply(signed_by("gone"))
    await lab.submit()
    await lab.work()
    assert lab.sender.sent == []
    found = await lab.callback()
    assert found.state is State.WAITING
    assert found.outcome is not None
    assert found.outcome.reason == "it cannot be signed: there is no secret 'gone' in namespace 'openfaas-fn'"
    await lab.store.close()


async def test_a_function_cannot_choose_another_secret_by_its_answer(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200), headers=(("x-pinnace-signed-by", "hooks"), ("X-Pinnace-Signed-By", "hooks")))
    await lab.submit()
    await lab.work()
    ((_, headers, _),) = lab.sender.sent
    assert len(headers["X-Pinnace-Signature"].split()) == 1
    assert "x-pinnace-signed-by" not in {name.lower() for name in headers}
    await lab.store.close()


async def test_an_outcome_that_is_nobodys_sends_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Answer(200))
    await lab.submit()
    (taken,) = await lab.store.take(lambda queue: 10, 1, lab.now, 30)
    stale = msgspec.structs.replace(taken, takes=taken.takes - 1)
    assert stale.lease != Lease(taken.id, taken.takes)
    await lab.execution.run(stale)
    assert await lab.store.page("hello.openfaas-fn#callback") == []
    await lab.store.close()


def test_a_call_without_the_wish_is_followed_by_nothing() -> None:
    carrier, _ = callbacks(Answer(200))
    plain = msgspec.structs.replace(call(), url="", headers=())
    assert carrier.follow(plain, State.SUCCEEDED, Outcome(), Response(answer=Answered(200))) == ()
    assert carrier.follow(call(), State.SUCCEEDED, Outcome(), Response(answer=Answered(200))) == ()
