"""A plain HTTP client for tests: requests as bytes on a connection of their own, answers as they come."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LONGEST_S = 10.0
LOGIN = ("admin", "a:b ü")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Stream:
    """An answer whose body is read as it comes. Leaving the context closes the connection."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        start, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        self.status = int(start.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}

    async def chunk(self) -> bytes:
        """Return the next chunk; empty at the end."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            whole = bytearray()
            while chunk := await self.chunk():
                whole += chunk
            return bytes(whole)
        return await self._reader.readexactly(int(self.headers.get("content-length", "0")))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Client:
    """Speaks to `host:port`; sends `authorization` unless a request has its own or says `login=False`."""

    host: str
    port: int
    authorization: str = field(default_factory=lambda: basic(*LOGIN))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        login: bool = True,
    ) -> AsyncIterator[Stream]:
        content = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        fields = {"Host": f"{self.host}:{self.port}", "Connection": "close"}
        if login:
            fields["Authorization"] = self.authorization
        if content is not None:
            fields["Content-Length"] = str(len(content))
        fields |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (content or b""))
            stream = Stream(reader)
            async with asyncio.timeout(LONGEST_S):
                await stream.head()
            yield stream
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        login: bool = True,
    ) -> Answer:
        async with self.stream(method, path, body, headers, login=login) as stream, asyncio.timeout(LONGEST_S):
            whole = b"" if method == "HEAD" else await stream.body()
            return Answer(stream.status, stream.headers, whole)
