"""What comes to /async-function/ goes to the acceptor, and whose answer it is says which id the call has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.settings import EdgeSettings
from orchestration.replica import Endpoint
from tests.gateway.edge.lab import Lab, Origin, field, fields


@pytest.fixture
async def acceptor(folder: Path) -> AsyncIterator[Origin]:
    origin = Origin(Endpoint(unix=str(folder / "acceptor")))
    origin.response = b"HTTP/1.1 202 Accepted\r\nX-Call-Id: theirs\r\nContent-Length: 0\r\n\r\n"
    await origin.start()
    yield origin
    await origin.stop()


@pytest.fixture
async def lab(folder: Path, acceptor: Origin) -> AsyncIterator[Lab]:
    lab = Lab(folder)
    lab.acceptor = acceptor.endpoint
    await lab.start(EdgeSettings(port=0, inner_folder=str(folder)))
    yield lab
    await lab.stop()


async def test_a_submission_goes_on_as_it_came_and_gets_the_acceptor_s_id(lab: Lab, acceptor: Origin) -> None:
    lab.deploy("echo")
    client = await lab.client()
    client.send(b"PUT /async-function/echo/a?b=c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi")
    status, head, _ = await client.response()
    assert (status, fields(head, b"x-call-id")) == (202, [b"theirs"])
    assert field(head, b"x-start-time")
    (asked,) = acceptor.heads
    assert asked.startswith(b"PUT /async-function/echo/a?b=c HTTP/1.1\r\n")
    assert (field(asked, b"x-a"), field(asked, b"x-call-id"), acceptor.bodies) == (b"1", None, [b"hi"])
    assert field(asked, b"x-start-time") and field(asked, b"x-forwarded-for") == b"127.0.0.1"


async def test_a_client_s_wish_for_an_id_is_passed_on(lab: Lab, acceptor: Origin) -> None:
    lab.deploy("echo")
    client = await lab.client()
    await client.get("/async-function/echo", b"X-Call-Id: mine\r\n")
    await client.get("/async-function/echo", b"X-Call-Id: no good\r\n")
    assert [field(head, b"x-call-id") for head in acceptor.heads] == [b"mine", None]


async def test_only_what_may_be_a_call_s_id_is_asked_for_where_there_is_no_function(lab: Lab, acceptor: Origin) -> None:
    client = await lab.client()
    assert (await client.get("/async-function/nobody"))[0] == 202
    client.send(b"POST /async-function/nobody HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    status, head, _ = await client.response()
    assert (status, field(head, b"x-openfaas-internal"), len(acceptor.heads)) == (404, b"gateway", 1)


async def test_submissions_are_no_function_s_calls(lab: Lab) -> None:
    function = lab.deploy("echo")
    client = await lab.client()
    await client.get("/async-function/echo")
    assert lab.edge.tallies()[function.id].started == 0
    assert not lab.samples


async def test_an_acceptor_within_the_process_that_takes_nobody_is_waited_for(folder: Path) -> None:
    refusals = iter([ConnectionRefusedError("not yet"), ConnectionRefusedError("not yet")])

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(b"HTTP/1.1 202 Accepted\r\nX-Call-Id: theirs\r\nContent-Length: 0\r\n\r\n")

    def accept() -> asyncio.Protocol:
        if (refusal := next(refusals, None)) is not None:
            raise refusal
        return Accepting()

    lab = Lab(folder)
    lab.acceptor = Endpoint(unix="/within")
    lab.inside = {lab.acceptor: accept}
    await lab.start(EdgeSettings(port=0))
    try:
        lab.deploy("echo")
        status, head, _ = await (await lab.client()).get("/async-function/echo")
        assert (status, field(head, b"x-call-id")) == (202, b"theirs")
    finally:
        await lab.stop()
