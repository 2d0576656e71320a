"""When a started process can take calls: it says so on its notify pipe, or it answers HTTP.

A program that knows nothing of the pipe is asked `GET /_/ready` once it has been silent for a while. Its socket is bound
before it starts, so the one question waits there until it serves, and costs nothing meanwhile. One that listens on a
TCP port of its own is asked at once and often: until it listens, the kernel refuses the question.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Self

import msgspec

from orchestration.local.ports import owner
from orchestration.replica import Endpoint

SILENT_FOR_S = 0.3
ASK_AGAIN_S = 0.05
PORT_ASK_AGAIN_S = 0.01
LONGEST_LINE_BYTES = 64 << 10


class Notification(msgspec.Struct):
    """What a replica writes to its notify pipe: `ready`, or one line of why it `failed`, with details for the log.

    A zygote may say that it is `unfit` instead: the import is good, but left behind what cannot be forked.
    """

    ready: bool = False
    failed: str = ""
    detail: str = ""
    unfit: str = ""


class NotifyPipe:
    """Reads one line from the pipe `fd`. `said` is done with it, or with None when the pipe closes without one.

    As a context manager it listens; the descriptor stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""
        self.said: asyncio.Future[Notification | None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self.read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)

    def read(self) -> None:
        """Read what is there now."""
        with contextlib.suppress(BlockingIOError):
            while not self.said.done():
                data = os.read(self._fd, LONGEST_LINE_BYTES)
                self._buffer += data
                line, newline, _ = self._buffer.partition(b"\n")
                if newline or not data or len(self._buffer) > LONGEST_LINE_BYTES:
                    self.said.set_result(_parse(line))
                    asyncio.get_running_loop().remove_reader(self._fd)


def _parse(line: bytes) -> Notification | None:
    try:
        said = msgspec.json.decode(line, type=Notification)
    except msgspec.DecodeError:
        return None
    return said if said.ready or said.failed or said.unfit else None


def silence_s(endpoint: Endpoint) -> float:
    """Return how long a program may be silent before it is asked."""
    return 0.0 if endpoint.unix is None else SILENT_FOR_S


async def answers(endpoint: Endpoint, user: int | None = None) -> None:
    """Return once the program at `endpoint` answers `GET /_/ready` with anything but 5xx; 501 says that it knows no GET.

    On a TCP port it counts only if the one who listens is `user` (a uid, None for this process's).
    """
    on_port = endpoint.unix is None
    while True:
        with contextlib.suppress(OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            status = await _ask(endpoint)
            if (status < 500 or status == 501) and (
                not on_port or owner(endpoint.port) == (os.geteuid() if user is None else user)
            ):
                return
        await asyncio.sleep(PORT_ASK_AGAIN_S if on_port else ASK_AGAIN_S)


async def _ask(endpoint: Endpoint) -> int:
    if endpoint.unix is not None:
        reader, writer = await asyncio.open_unix_connection(endpoint.unix)
    else:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(b"GET /_/ready HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n")
        return int((await reader.readuntil(b"\r\n")).split()[1])
    finally:
        writer.close()
