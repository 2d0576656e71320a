"""A live edge between raw client sockets and origins that follow a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.edge.edge import Edge
from gateway.edge.inside import Accept
from gateway.edge.settings import EdgeSettings
from orchestration.events import Event, FunctionChanged, ReplicaChanged
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec

LIMIT_S = 20.0

Handler = Callable[["Origin", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def eventually(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - conditions that nothing signals
            await asyncio.sleep(0.005)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of one request that has a Content-Length or none; the head is empty at the end of file."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b"", b""
    if b"transfer-encoding: chunked" in head.lower():
        body = b""
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            if not size:
                trailers = b""
                while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                    trailers += line
                return head + trailers, body
            body += (await reader.readexactly(size + 2))[:-2]
    length = field(head, b"content-length")
    return head, await reader.readexactly(int(length or 0))


def field(head: bytes, name: bytes) -> bytes | None:
    """Return the value of a header field that occurs once, or None."""
    values = fields(head, name)
    assert len(values) <= 1, values
    return values[0] if values else None


def fields(head: bytes, name: bytes) -> list[bytes]:
    """Return all values of a header field."""
    found = []
    for line in head.split(b"\r\n")[1:]:
        key, colon, value = line.partition(b":")
        if colon and key.lower() == name.lower():
            found.append(value.strip())
    return found


async def answer_ok(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with what the origin's `response` says."""
    while True:
        head, body = await read_request(reader)
        if not head:
            return
        origin.heads.append(head)
        origin.bodies.append(body)
        writer.write(origin.response)
        await writer.drain()


class Origin:
    """A replica made of a script: `handler` serves each connection."""

    def __init__(self, endpoint: Endpoint, handler: Handler = answer_ok) -> None:
        self.endpoint = endpoint
        self.handler = handler
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if self.endpoint.unix is not None:
            self._server = await asyncio.start_unix_server(self._serve, self.endpoint.unix)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.endpoint = Endpoint(host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.handler(self, reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()


class Client:
    """A raw client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self, *, head_only: bool = False) -> tuple[int, bytes, bytes]:
        """Return status, head and body of the next response."""
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if head_only or status in (204, 304) or status < 200:
                return status, head, b""
            if (length := field(head, b"content-length")) is not None:
                return status, head, await self.reader.readexactly(int(length))
            if field(head, b"transfer-encoding") == b"chunked":
                body = b""
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                    head += line
                return status, head, body
            return status, head, await self.reader.read()

    async def get(self, path: str = "/function/echo", extra: bytes = b"") -> tuple[int, bytes, bytes]:
        self.send(b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (path.encode(), extra))
        return await self.response()

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Lab:
    """An edge, its control origin, and functions with scripted replicas."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples: list[LoadSample] = []
        self.released: list[str] = []
        self.functions: dict[str, Function] = {}
        self.origins: list[Origin] = []
        self.clients: list[Client] = []
        self.replicas: dict[str, Replica] = {}
        self.control = Origin(Endpoint(unix=str(folder / "control")))
        self.control.response = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontrol"
        self.acceptor: Endpoint | None = None
        self.inside: dict[Endpoint, Accept] = {}
        self.edge: Edge

    async def start(self, settings: EdgeSettings) -> None:
        await self.control.start()
        self.edge = Edge(
            settings,
            control=self.control.endpoint,
            on_load=self.samples.append,
            on_released=self.released.append,
            acceptor=self.acceptor,
            inside=self.inside,
        )
        await self.edge.start()

    def apply(self, event: Event) -> None:
        self.edge.apply(event)

    @property
    def port(self) -> int:
        return self.edge.port

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        await self.edge.stop()
        for origin in (self.control, *self.origins):
            await origin.stop()

    def deploy(self, name: str, *, namespace: str = "openfaas-fn", **env: str) -> Function:
        """Deploy a function; env `exec_timeout` and `max_inflight` mean what they do everywhere."""
        spec = FunctionSpec(service=name, image="x", namespace=namespace, env_vars=env)
        key = f"{name}.{namespace}"
        function = self.functions[key] = deploy(self.functions.get(key), spec, "sha256:0", 0.0)
        self.apply(FunctionChanged(function))
        return function

    async def replica(self, function: Function, handler: Handler = answer_ok, *, tcp: bool = False) -> Origin:
        """Start a replica of the newest revision and tell the edge that it is ready."""
        number = len(self.origins)
        origin = Origin(Endpoint(host="127.0.0.1") if tcp else Endpoint(unix=str(self.folder / f"r{number}")), handler)
        await origin.start()
        self.origins.append(origin)
        self.tell(function, f"r{number}", ReplicaState.RUNNING, origin.endpoint)
        return origin

    def tell(
        self, function: Function, replica_id: str, state: ReplicaState, endpoint: Endpoint | None = None, reason: str = ""
    ) -> None:
        """Tell the edge that a replica entered a state."""
        known = self.replicas.get(replica_id)
        replica = Replica(
            id=replica_id,
            namespace=function.id.namespace,
            function=function.id.name,
            revision=function.newest.name,
            state=state,
            endpoint=endpoint or (known.endpoint if known else None),
            reason=reason,
        )
        self.replicas[replica_id] = replica
        self.apply(ReplicaChanged(replica))

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client
