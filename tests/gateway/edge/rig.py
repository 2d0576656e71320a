"""One client connection of an edge, without sockets: what is written is noted, and the clock stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gateway.edge.call import Call
from gateway.edge.client import ClientConnection
from gateway.edge.context import EdgeContext
from gateway.edge.edge import Edge
from gateway.edge.inner import InnerConnection
from gateway.edge.settings import EdgeSettings
from gateway.edge.upstream import UpstreamConnection, UpstreamConnections
from orchestration.events import FunctionChanged, ReplicaChanged
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec


class Transport:
    """Notes what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.written += b"<end>"

    def close(self) -> None:
        self.written += b"" if self.closing else b"<closed>"
        self.closing = True

    def abort(self) -> None:
        self.written += b"" if self.closing else b"<broken>"
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def pause_reading(self) -> None:
        """Reads come one by one here."""

    def resume_reading(self) -> None:
        """Reads come one by one here."""


class Pool(UpstreamConnections):
    """Connects at once, to nobody."""

    def __init__(self, context: EdgeContext) -> None:
        super().__init__(Endpoint(unix="/none"), context)
        self.made: list[tuple[UpstreamConnection, Transport]] = []

    def connect(self, call: Call) -> None:
        connection, transport = UpstreamConnection(self), Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        self.made.append((connection, transport))
        call.send(connection)


class Parsed:
    """Reads no head: all of them go to the parser."""

    def read(self, data: bytes) -> None:
        """Nothing is plain."""

    def forget(self) -> None:
        """Nothing is remembered."""


class Outcome(NamedTuple):
    """Bytes to the client, bytes on each connection to the replica, calls counted by status."""

    answered: bytes
    sent: list[bytes]
    codes: dict[int, int]


class Rig:
    """One connection of a client, or of a worker (`inner`), to an edge whose sockets are notes and whose clock stands still."""

    def __init__(self, *, plain: bool = True, inner: bool = False, **settings: Any) -> None:
        self.edge = Edge(
            EdgeSettings(port=0, **settings),
            control=Endpoint(unix="/none"),
            on_load=lambda sample: None,
            on_released=lambda replica: None,
            clock=lambda: 1.0,
        )
        context = self.context = self.edge._context
        context.date = b"Date: now\r\n"
        context.call_ids._prefix, context.call_ids._next = b"id-", 0
        if not plain:
            context.plain_requests = context.plain_responses = Parsed()  # type: ignore[assignment]
        self.pool = Pool(context)
        self.edge.connections = lambda endpoint: self.pool  # type: ignore[method-assign]
        self._later: list[Callable[[], object]] = []
        self.edge.soon = context.soon = self._later.append  # type: ignore[method-assign,assignment]
        context.control = self.edge._control_dispatcher("control-api", Endpoint(unix="/none"))
        context.acceptor = self.edge._control_dispatcher("acceptor", Endpoint(unix="/none"))
        self.function = deploy(None, FunctionSpec(service="echo", image="x"), "sha256:0", 0.0)
        self.edge.apply(FunctionChanged(self.function))
        replica = Replica(
            id="r0",
            namespace=self.function.id.namespace,
            function="echo",
            revision=self.function.newest.name,
            state=ReplicaState.RUNNING,
            endpoint=Endpoint(unix="/none"),
        )
        self.edge.apply(ReplicaChanged(replica))
        self.transport = Transport()
        self.client = InnerConnection(context) if inner else ClientConnection(context)
        self.client.connection_made(self.transport)  # type: ignore[arg-type]

    def read(self, data: bytes, answers: Iterator[list[bytes]]) -> None:
        """The client's bytes come; each complete call is answered by the next of `answers`, a list of reads."""
        self.client.data_received(data)
        self._turn()
        while (busy := self._busy()) is not None:
            call = busy.call
            for piece in next(answers):
                if busy.call is call:
                    busy.data_received(piece)
            if busy.call is call:
                busy.connection_lost(None)
            self._turn()

    def _turn(self) -> None:
        while self._later:
            self._later.pop(0)()

    def _busy(self) -> UpstreamConnection | None:
        return next((c for c, _ in self.pool.made if c.call is not None and c.call.complete), None)

    def outcome(self) -> Outcome:
        """Return all that anybody could see."""
        tally = self.edge.tallies()[self.function.id].copy()
        tally.add(self.context.control_tally)
        tally.add(self.context.unrouted_tally)
        return Outcome(self.transport.written, [t.written for _, t in self.pool.made], tally.codes)
