"""Calls are accepted when they are kept, and what became of them is told to whoever knows their id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.asynchronous.calls import Body, State
from gateway.asynchronous.store import StoreUnavailable
from tests.gateway.asynchronous.conftest import MakeLab
from tests.gateway.asynchronous.lab import AsyncLab
from tests.gateway.edge.lab import eventually


async def test_a_call_is_kept_with_all_that_came(lab: AsyncLab) -> None:
    lab.deploy("echo")
    answered = await lab.ask("PUT", "/async-function/echo/a/b?c=d", b"hello", X_Thing="1", Connection="close")
    assert answered.status == 202 and answered.header("x-start-time")
    call = await lab.store.get(answered.header("x-call-id"))
    assert call is not None
    assert (call.state, call.method, call.path, call.body.data) == (State.WAITING, "PUT", "/a/b?c=d", b"hello")
    headers = {name.lower(): value for name, value in call.headers}
    assert headers["x-thing"] == "1" and headers["host"] == "gateway.example" and headers["x-forwarded-for"] == "127.0.0.1"
    assert not headers.keys() & {"connection", "content-length", "x-call-id", "x-start-time"}


async def test_what_does_not_exist_is_not_found(lab: AsyncLab) -> None:
    lab.deploy("echo")
    for method, path in (
        ("POST", "/async-function/nobody"),
        ("GET", "/async-function/nobody"),
        ("DELETE", "/async-function/nobody"),
        ("GET", "/async-function/nobody/result"),
        ("GET", "/async-function/nobody/else"),
    ):
        assert (await lab.ask(method, path)).status == 404, path


async def test_a_chunked_body_is_kept_too(lab: AsyncLab) -> None:
    lab.deploy("echo")
    client = await lab.client()
    client.send(
        b"POST /async-function/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert (await client.response())[0] == 202
    (call,) = await lab.store.take(lambda queue: 1, 1, 2e9, 30)
    assert call.body.data == b"abcde"
    assert "transfer-encoding" not in {name.lower() for name, _ in call.headers}


async def test_a_long_body_is_a_file_and_one_that_is_too_long_is_refused(make_lab: MakeLab) -> None:
    lab = await make_lab(body_bytes=1_000_000)
    lab.deploy("echo")
    body = bytes(range(256)) * 3900
    call = await lab.store.get(await lab.submit(body=body))
    assert call is not None and call.body.data is None
    assert b"".join([chunk async for chunk in lab.store.chunks(call.body)]) == body
    refused = await lab.ask("POST", "/async-function/echo", body + body)
    assert refused.status == 413 and b"1000000 bytes" in refused.body
    client = await lab.client()
    client.send(b"POST /async-function/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send((b"%x\r\n" % len(body) + body + b"\r\n") * 2)
    assert (await client.response())[0] == 413
    await eventually(lambda: len(list(lab.store.spool.iterdir())) == 1)


async def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing(lab: AsyncLab) -> None:
    lab.deploy("echo")
    client = await lab.client()
    client.send(b"POST /async-function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
    await eventually(lambda: list(lab.store.spool.iterdir()))
    await client.close()
    await eventually(lambda: not list(lab.store.spool.iterdir()))
    assert await lab.store.depths(2e9) == {}


async def test_a_full_queue_says_when_to_come_back(make_lab: MakeLab) -> None:
    lab = await make_lab(waiting_calls=2)
    lab.deploy("echo")
    lab.deploy_with("small", {"com.pinnace.async.max-waiting": "1"})
    await lab.submit()
    await lab.submit()
    refused = await lab.ask("POST", "/async-function/echo")
    assert (refused.status, refused.header("retry-after")) == (429, "10")
    await lab.submit("/async-function/small")
    assert (await lab.ask("POST", "/async-function/small")).status == 429


async def test_a_store_that_cannot_keep_a_call_is_not_a_202(lab: AsyncLab, caplog: pytest.LogCaptureFixture) -> None:
    lab.deploy("echo")

    async def submit(*_: object) -> None:
        raise StoreUnavailable(f"{lab.folder}/queue.db: the disk is full")

    lab.store.submit = submit  # type: ignore[method-assign,assignment]
    refused = await lab.ask("POST", "/async-function/echo")
    assert refused.status == 503 and refused.body == b"the call was not accepted: queue.db: the disk is full\n"
    for _ in range(3):
        await lab.ask("POST", "/async-function/echo")
    assert caplog.text.count(f"{lab.folder}/queue.db: the disk is full") == 1  # a log on the same disk is not to fill it


async def test_a_failure_that_nobody_foresaw_keeps_no_client_waiting(
    lab: AsyncLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    lab.deploy("echo")
    monkeypatch.setattr(lab.store, "submit", broken)
    monkeypatch.setattr(lab.store, "get", broken)
    async with asyncio.timeout(5):
        assert (await lab.ask("POST", "/async-function/echo", b"x")).status == 502
        assert (await lab.ask("GET", "/async-function/some-call")).status == 502
    assert caplog.text.count("the acceptor of asynchronous calls failed") >= 2


async def test_the_same_idempotency_key_is_answered_with_the_first_id(lab: AsyncLab) -> None:
    lab.deploy("echo")
    first = await lab.submit(Idempotency_Key="k")
    assert await lab.submit(Idempotency_Key="k") == first
    assert await lab.submit(Idempotency_Key="other") != first


@pytest.mark.parametrize("size", [5, 100_000])
async def test_an_idempotency_key_belongs_to_one_request(lab: AsyncLab, size: int) -> None:
    lab.deploy("echo")
    body = b"x" * size
    first = await lab.submit("/async-function/echo/a", body, Idempotency_Key="order-17")
    for path, sent in (("a", body + b"y"), ("b", body)):
        refused = await lab.ask("POST", f"/async-function/echo/{path}", sent, Idempotency_Key="order-17")
        assert refused.status == 422
        assert b"the Idempotency-Key 'order-17' belongs to another request to echo.openfaas-fn" in refused.body
        assert first.encode() not in refused.head + refused.body  # who has guessed a key is not told what it opens
    assert await lab.submit("/async-function/echo/a", body, Idempotency_Key="order-17") == first
    (depth,) = (await lab.store.depths(2e9)).values()
    assert depth.waiting == 1
    assert len(list(lab.store.spool.iterdir())) == (size > 65536)


async def test_functions_see_nothing_of_the_fingerprint_and_nobody_can_send_one(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    call_id = await lab.submit(Idempotency_Key="k", X_Pinnace_Fingerprint="mine")
    call = await lab.store.get(call_id)
    assert call is not None
    ((_, value),) = [header for header in call.headers if header[0].lower() == "x-pinnace-fingerprint"]
    assert value != "mine"
    await lab.work()
    assert (await lab.outcome(call_id))["state"] == "succeeded"
    (head,) = origin.heads
    assert b"fingerprint" not in head.lower()
    assert b"idempotency-key: k" in head.lower()


async def test_ids_are_the_platforms_own_unless_the_client_wishes_for_one(lab: AsyncLab) -> None:
    lab.deploy("echo")
    ids = [await lab.submit() for _ in range(3)]
    assert len({call_id[15:18] + call_id[19:] for call_id in ids}) == 3
    assert await lab.submit(X_Call_Id="mine") == "mine"
    assert await lab.submit(X_Call_Id="mine") != "mine"


async def test_a_wait_ends_with_the_call_or_with_its_time(lab: AsyncLab) -> None:
    function = lab.deploy("echo")
    call_id = await lab.submit()
    early = await lab.ask("GET", f"/async-function/{call_id}?wait=50ms")
    assert early.json["state"] == "waiting"
    none = await lab.ask("GET", f"/async-function/{call_id}/result")
    assert none.status == 404 and none.header("retry-after") == "1"
    waiting = asyncio.create_task(lab.outcome(call_id))
    await lab.replica(function)
    await lab.work()
    ended = await waiting
    assert (ended["state"], ended["attempts"], ended["response"]["status"], ended["response"]["body"]) == (
        "succeeded",
        1,
        200,
        "ok",
    )
    assert (await lab.ask("GET", f"/async-function/{call_id}?wait=soon")).status == 400


async def test_who_waits_at_the_end_is_told_how_the_call_stands(lab: AsyncLab) -> None:
    lab.deploy("echo")
    call_id = await lab.submit()
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(lab.outcome(call_id))
        await eventually(lambda: lab.accepting._waits)
        lab.accepting.dismiss()
        assert (await waiting)["state"] == "waiting"
        assert (await lab.outcome(call_id))["state"] == "waiting"


async def test_a_client_that_stops_waiting_leaves_nothing_that_waits(lab: AsyncLab) -> None:
    lab.deploy("echo")
    call_id = await lab.submit()
    client = await lab.client()
    client.send(f"GET /async-function/{call_id}?wait=30s HTTP/1.1\r\nHost: gateway.example\r\n\r\n".encode())
    await eventually(lambda: lab.store._waiters)
    client.writer.close()
    await eventually(lambda: not lab.store._waiters and not lab.accepting._waits)


async def test_a_result_is_answered_as_the_function_answered(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    body = b"\xff" * 200_000
    origin.response = b"HTTP/1.1 201 Made\r\nX-Own: 1\r\nContent-Type: image/x\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    await lab.work()
    call_id = await lab.submit()
    told = (await lab.outcome(call_id))["response"]
    assert (told["status"], told["bodyBytes"], "body" in told) == (201, 200_000, False)
    result = await lab.ask("GET", f"/async-function/{call_id}/result")
    assert (result.status, result.body, result.header("x-own")) == (201, body, "1")
    assert (result.header("x-call-id"), result.header("x-call-state")) == (call_id, "succeeded")
    head = await lab.ask("HEAD", f"/async-function/{call_id}/result")
    assert (head.status, head.header("content-length")) == (201, "200000")


async def test_a_result_that_is_too_long_is_cut_and_says_so(make_lab: MakeLab) -> None:
    lab = await make_lab(result_bytes=3)
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    await lab.work()
    call_id = await lab.submit()
    told = (await lab.outcome(call_id))["response"]
    assert (told["body"], told["cut"]) == ("hel", True)
    assert (await lab.ask("GET", f"/async-function/{call_id}/result")).header("x-result-cut") == "true"


async def test_cancelling_ends_a_call_once(lab: AsyncLab) -> None:
    lab.deploy("echo")
    call_id = await lab.submit()
    cancelled = await lab.ask("DELETE", f"/async-function/{call_id}")
    assert (cancelled.status, cancelled.json) == (202, {"id": call_id, "state": "cancelled", "was": "waiting"})
    assert (await lab.ask("DELETE", f"/async-function/{call_id}")).status == 409
    assert (await lab.outcome(call_id))["state"] == "cancelled"
    assert (await lab.ask("DELETE", f"/async-function/{call_id}/result")).status == 404


async def test_a_function_may_be_called_by_any_method_and_pipelined(lab: AsyncLab) -> None:
    lab.deploy("echo")
    client = await lab.client()
    client.send(
        b"GET /async-function/echo/1 HTTP/1.1\r\nHost: h\r\n\r\nDELETE /async-function/echo/2 HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    assert [(await client.response())[0] for _ in range(2)] == [202, 202]
    assert [call.method for call in await lab.store.page()] == ["DELETE", "GET"]


async def test_a_body_that_the_disk_does_not_take_is_refused_and_not_waited_for(lab: AsyncLab) -> None:
    lab.deploy("echo")
    lab.store.spool.rmdir()
    async with asyncio.timeout(20):
        answered = await lab.ask("POST", "/async-function/echo", b"x" * 4_000_000)
    assert answered.status == 503 and b"No such file" in answered.body
    assert answered.header("retry-after") == "5"


async def test_a_result_that_is_out_of_reach_breaks_its_answer_off(
    lab: AsyncLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(body: Body) -> AsyncIterator[bytes]:
        yield b"o"
        raise StoreUnavailable("away")

    await lab.replica(lab.deploy("echo"))
    await lab.work()
    call_id = await lab.submit()
    await lab.outcome(call_id)
    monkeypatch.setattr(lab.store, "chunks", broken)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await lab.ask("GET", f"/async-function/{call_id}/result")
    assert not [record for record in caplog.records if record.exc_info]
