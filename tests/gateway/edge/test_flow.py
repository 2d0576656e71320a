"""Back-pressure: long bodies pass through a small memory, and a slow reader slows its writer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.gateway.edge.lab import Lab, Origin, eventually

SIZE = 96 * 1024 * 1024
PIECE = bytes(256 * 1024)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def test_a_long_response_waits_for_a_slow_client(lab: Lab) -> None:
    sent = 0

    async def pours(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        while sent < SIZE:
            writer.write(PIECE)
            sent += len(PIECE)
            await writer.drain()
        await reader.read()

    await lab.replica(lab.deploy("echo"), pours)
    client = await lab.client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    before = resident_bytes()
    client.send(b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n")
    await eventually(lambda: sent)
    at_rest = -1
    while at_rest != sent:
        at_rest = sent
        await asyncio.sleep(0.1)
    assert sent < SIZE / 2
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await client.reader.readuntil(b"\r\n\r\n")
    got = 0
    while got < SIZE:
        got += len(await client.reader.read(1 << 20))
    assert got == SIZE
    assert resident_bytes() - before < 20 * 1024 * 1024


async def test_a_long_request_waits_for_a_slow_replica(lab: Lab) -> None:
    go_on = asyncio.Event()
    got = 0

    async def drinks(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        while got < SIZE:
            got += len(await reader.read(1 << 20))
        writer.write(origin.response)
        await reader.read()

    await lab.replica(lab.deploy("echo"), drinks)
    client = await lab.client()
    before = resident_bytes()
    client.send(b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE)
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while sent < SIZE:
            client.send(PIECE)
            sent += len(PIECE)
            await client.writer.drain()

    pouring = asyncio.create_task(pour())
    at_rest = -1
    while at_rest != sent:
        at_rest = sent
        await asyncio.sleep(0.1)
    assert 0 < sent < SIZE / 2
    go_on.set()
    await pouring
    assert (await client.response())[2] == b"ok"
    assert got == SIZE
    assert resident_bytes() - before < 20 * 1024 * 1024


async def test_a_long_body_for_a_function_at_zero_stays_with_the_client(lab: Lab) -> None:
    function = lab.deploy("echo")
    client = await lab.client()
    client.send(b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE)
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while sent < SIZE:
            client.send(PIECE)
            sent += len(PIECE)
            await client.writer.drain()

    async def drinks(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = SIZE
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
        writer.write(origin.response)
        await reader.read()

    pouring = asyncio.create_task(pour())
    at_rest = -1
    while at_rest != sent:
        at_rest = sent
        await asyncio.sleep(0.1)
    assert sent < SIZE / 2
    await lab.replica(function, drinks)
    await pouring
    assert (await client.response())[2] == b"ok"


async def test_a_client_that_reads_no_answers_is_not_read_either(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PIECE) + PIECE
    client = await lab.client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    request = b"GET /function/echo HTTP/1.1\r\nHost: h\r\nX-Padding: %b\r\n\r\n" % (b"x" * 50_000)
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            client.send(request)
            sent += 1
            await client.writer.drain()
            await asyncio.sleep(0)

    pouring = asyncio.create_task(pour())
    before = resident_bytes()
    at_rest = -1
    while at_rest != sent:
        at_rest = sent
        await asyncio.sleep(0.2)
    pouring.cancel()
    await asyncio.gather(pouring, return_exceptions=True)
    assert resident_bytes() - before < 20 * 1024 * 1024
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(sent):
        assert (await client.response())[2] == PIECE


async def test_an_endless_response_head_is_cut(lab: Lab) -> None:
    async def babbles(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(PIECE.replace(b"\0", b"x"))
            await writer.drain()

    await lab.replica(lab.deploy("echo"), babbles)
    client = await lab.client()
    status, _, body = await client.get()
    assert status == 502
    assert b"longer than 1048576 bytes" in body
