"""The inner side: a worker calls functions as any client does, and is believed."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.settings import EdgeSettings
from tests.gateway.edge.lab import Client, Lab, field


@pytest.fixture
async def lab(folder: Path) -> AsyncIterator[Lab]:
    lab = Lab(folder)
    await lab.start(EdgeSettings(port=0, inner_folder=str(folder)))
    yield lab
    await lab.stop()


async def worker(lab: Lab) -> Client:
    client = Client(*await asyncio.open_unix_connection(lab.edge.settings.inner_socket))
    lab.clients.append(client)
    return client


async def test_what_a_worker_says_of_the_client_is_passed_on_as_it_says_it(lab: Lab) -> None:
    function = lab.deploy("echo")
    origin = await lab.replica(function)
    said = b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Proto: https\r\nX-Call-Id: id-1\r\n"
    status, head, _ = await (await worker(lab)).get("/function/echo", said)
    (asked,) = origin.heads
    assert (status, field(head, b"x-call-id"), field(asked, b"x-call-id")) == (200, b"id-1", b"id-1")
    assert field(asked, b"x-forwarded-for") == b"10.0.0.1"
    assert field(asked, b"x-forwarded-host") == b"shop.example"
    assert field(asked, b"x-forwarded-proto") == b"https"
    assert lab.edge.tallies()[function.id].completed == 1


async def test_nobody_else_can_connect(lab: Lab) -> None:
    assert stat.S_IMODE(Path(lab.edge.settings.inner_socket).stat().st_mode) == 0o600


async def test_a_drain_closes_it_too(lab: Lab) -> None:
    client = await worker(lab)
    await client.get("/none")
    assert await lab.edge.drain(1.0)
    assert await client.rest() == b""
    with pytest.raises(OSError):
        await worker(lab)
