"""Closed-loop clients: each sends its next call when it has the answer to the last one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass
class Log:
    """What the clients saw: for each call when it began, how long it took (both seconds) and whether it failed."""

    calls: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def load(port: int, path: str, clients: int, seconds: float, log: Log) -> None:
    """Let `clients` call `path` at the same time for `seconds`; every answer must be 200."""
    until = time.monotonic() + seconds
    await asyncio.gather(*(_client(port, path, until, log) for _ in range(clients)))


async def _client(port: int, path: str, until: float, log: Log) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (began := time.monotonic()) < until:
            writer.write(request)
            async with asyncio.timeout(30):
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.lower().partition(b"content-length: ")[2]
                body = await reader.readexactly(int(fields.partition(b"\r\n")[0]))
            if head.startswith(b"HTTP/1.1 200 "):
                log.calls.append((began, time.monotonic() - began))
            else:
                status = head.splitlines()[0].decode()
                log.failures.append(f"{status}: {body[:100]!r}")
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        log.failures.append(repr(error))
    finally:
        writer.close()
