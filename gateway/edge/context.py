"""What all connections of one edge share: settings, the clock, the routes, and who is connected."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Callable
from email.utils import formatdate
from time import time_ns
from typing import TYPE_CHECKING

from gateway.edge.plain import PlainRequests, PlainResponses
from gateway.edge.settings import EdgeSettings
from gateway.edge.tally import Tally
from gateway.edge.tracing import Tracing

if TYPE_CHECKING:
    from gateway.edge.client import ClientConnection
    from gateway.edge.dispatcher import Dispatcher
    from gateway.edge.routes import Routes


class CallIds:
    """Makes call ids that look like UUIDs (version 4): 62 random bits for each edge process, then a counter.

    A counter costs 0.2 µs where `uuid.uuid4` costs 2, and no two edges or restarts share the random part.
    """

    __slots__ = ("_next", "_prefix")

    def __init__(self) -> None:
        r = secrets.token_hex(8)
        self._prefix = f"{r[:8]}-{r[8:12]}-4{r[13:]}-{'89ab'[int(r[12], 16) % 4]}{secrets.token_hex(2)[1:]}-".encode()
        self._next = secrets.randbits(32)

    def marks(self, call_id: bytes = b"") -> bytes:
        """Return the header lines that mark a call that begins now: its id, a new one of 36 characters unless it has one,
        and its start in nanoseconds since 1970."""
        if call_id:
            return b"X-Call-Id: %b\r\nX-Start-Time: %d\r\n" % (call_id, time_ns())
        self._next += 1
        return b"X-Call-Id: %b%012x\r\nX-Start-Time: %d\r\n" % (self._prefix, self._next, time_ns())


class EdgeContext:
    """`clock` gives monotonic seconds; `now` is its value at the last sweep (at most 0.25 s ago): good enough for
    deadlines and free to read. `date` is the present `Date` header line. In a read of `small_bytes` no head can be too
    large: a field takes at least four. `soon` runs a function in the next turn of the loop. Requests that are no
    function's are counted in `control_tally`, or in `unrouted_tally` when the edge refused them itself; `accepted` and
    `turned_away` count connections. `tracing` is None where nothing is traced, `acceptor` where asynchronous calls are not
    served. `trouble` says why nobody starts replicas, while nobody does."""

    __slots__ = (
        "_trusted",
        "accepted",
        "acceptor",
        "call_ids",
        "clock",
        "connections",
        "control",
        "control_tally",
        "date",
        "draining",
        "nobody",
        "now",
        "plain_requests",
        "plain_responses",
        "routes",
        "settings",
        "small_bytes",
        "soon",
        "tracing",
        "trouble",
        "turned_away",
        "unrouted_tally",
    )

    control: Dispatcher
    routes: Routes
    soon: Callable[[Callable[[], object]], object]

    def __init__(self, settings: EdgeSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.control_tally = Tally()
        self.unrouted_tally = Tally()
        self.small_bytes = min(settings.max_header_bytes, 4 * settings.max_header_fields)
        self.clock = clock
        self.now = clock()
        self.date = b""
        self.call_ids = CallIds()
        self.connections: set[ClientConnection] = set()
        self.accepted = self.turned_away = 0
        self.nobody = asyncio.Event()
        self.nobody.set()
        self.draining = False
        self.tracing: Tracing | None = None
        self.acceptor: Dispatcher | None = None
        self.trouble = ""
        self.plain_requests = PlainRequests(settings)
        self.plain_responses = PlainResponses()
        self._trusted = tuple(ipaddress.ip_network(network, strict=False) for network in settings.trusted_proxies)
        self.turn()

    def turn(self) -> None:
        """Read the clock anew."""
        self.now = self.clock()
        self.date = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"
        self.plain_requests.forget()
        self.plain_responses.forget()

    def joined(self, connection: ClientConnection) -> None:
        """A client connected."""
        self.connections.add(connection)
        self.accepted += 1
        self.nobody.clear()

    def left(self, connection: ClientConnection) -> None:
        """A client's connection is gone."""
        self.connections.discard(connection)
        if not self.connections:
            self.nobody.set()

    def trusts(self, address: str) -> bool:
        """Whether the peer's forwarding headers are believed."""
        if not self._trusted or not address:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._trusted)
