"""What `benchmarks.asynchronous` measures the store in Redis by: the same server without a store, as quick as can be."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Final

from tests.gateway.asynchronous.redis_server import RedisServer

STREAM: Final = b"bare"
GROUP: Final = b"workers"
RESULTS: Final = b"bare-results"

Reply = Any
"""Bytes, a number, None, or a list of such."""


def adds(server: RedisServer, request: bytes, body: bytes, count: int, *, clients: int, pipeline: int) -> float:
    """Entries added to a stream a second by redis-benchmark's clients, which are written in C and wait for each answer."""
    given = ["-s", str(server.path), "-c", str(clients), "-n", str(count), "-P", str(pipeline), "--csv"]
    words = ["XADD", STREAM.decode(), "*", "i", "0" * 36, "r", request.hex()[: len(request)], "b", body.decode()]
    told = subprocess.run(["redis-benchmark", *given, *words], capture_output=True, text=True, check=True).stdout
    rate = float(told.splitlines()[-1].split('","')[1].strip('"'))
    assert int(server.command("XLEN", STREAM.decode())[1:]) >= count  # it sends whole pipelines
    server.command("DEL", STREAM.decode())
    return rate


async def completions(
    server: RedisServer, request: bytes, body: bytes, outcome: bytes, calls: int, *, takers: int, taken: int
) -> tuple[float, float, float]:
    """Entries of a stream a second that consumers of a group read, `taken` at a time, and then acknowledge and write the
    result of, a command each, all in one message. It is what a store does that has neither leases that end, nor limits, turns,
    delays, counts, lists nor an end of what it keeps. Each consumer has a connection, all are in one process. Returned besides
    are the microseconds of CPU that an entry takes here and in the server."""
    ids = [b"%036d" % number for number in range(calls)]
    async with asyncio.timeout(120):
        first = await _Connection.to(server)
        for start in range(0, calls, 1000):
            more = [_command(b"XADD", STREAM, b"*", b"i", one, b"r", request, b"b", body) for one in ids[start : start + 1000]]
            await first.ask(more)
        await first.ask([_command(b"XGROUP", b"CREATE", STREAM, GROUP, b"0")])
        result = outcome + body

        async def complete(connection: _Connection, number: int) -> int:
            read = _command(b"XREADGROUP", b"GROUP", GROUP, b"%d" % number, b"COUNT", b"%d" % taken, b"STREAMS", STREAM, b">")
            done = 0
            while (streams := (await connection.ask([read]))[0]) is not None:
                (_, entries), *_ = streams
                ends = []
                for entry, fields in entries:
                    call_id = dict(zip(fields[::2], fields[1::2], strict=True))[b"i"]
                    ends.append(_command(b"XACK", STREAM, GROUP, entry))
                    ends.append(_command(b"HSET", RESULTS, call_id, result))
                done += len(entries) if await connection.ask(ends) else 0
            return done

        connections = [await _Connection.to(server) for _ in range(takers)]
        started, used_s, server_s = time.perf_counter(), time.process_time(), cpu_s(server)
        done = await asyncio.gather(*(complete(connection, number) for number, connection in enumerate(connections)))
        took, used_s, server_s = time.perf_counter() - started, time.process_time() - used_s, cpu_s(server) - server_s
        assert sum(done) == calls == (await first.ask([_command(b"HLEN", RESULTS)]))[0]
        await first.ask([_command(b"DEL", STREAM, RESULTS)])
        for connection in (first, *connections):
            connection.close()
    return calls / took, used_s / calls * 1e6, server_s / calls * 1e6


def cpu_s(server: RedisServer) -> float:
    """How much CPU the server has used."""
    lines = server.command("INFO", "cpu").decode().splitlines()
    return sum(float(line.partition(":")[2]) for line in lines if line.startswith(("used_cpu_user:", "used_cpu_sys:")))


class _Connection:
    """Commands written and answers read as they are, with nothing between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, server: RedisServer) -> _Connection:
        return cls(*await asyncio.open_unix_connection(str(server.path)))

    async def ask(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send commands in one message; return what each answered."""
        self._writer.write(b"".join(commands))
        told, position, replies = b"", 0, list[Reply]()
        while len(replies) < len(commands):
            try:
                reply, position = _reply(told, position)
                replies.append(reply)
            except (ValueError, IndexError):  # not all is there
                told, position = told[position:] + await self._reader.read(1 << 20), 0
        return replies

    def close(self) -> None:
        self._writer.close()


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))


def _reply(told: bytes, start: int) -> tuple[Reply, int]:
    """Return the answer that begins at `start`, and where it ends. Raises ValueError or IndexError where more is to come."""
    end = told.index(b"\r\n", start)
    kind, line, position = told[start], told[start + 1 : end], end + 2
    if kind == 36:  # $
        size = int(line)
        if size < 0:
            return None, position
        if len(told) < position + size + 2:
            raise IndexError
        return told[position : position + size], position + size + 2
    if kind == 42:  # *
        count = int(line)
        if count < 0:
            return None, position
        found = list[Reply]()
        for _ in range(count):
            one, position = _reply(told, position)
            found.append(one)
        return found, position
    if kind == 58:  # :
        return int(line), position
    assert kind == 43, told[start:end]  # +
    return line, position
