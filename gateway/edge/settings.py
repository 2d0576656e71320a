"""Every limit of the edge, with its default."""

from __future__ import annotations

import msgspec


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. Durations are seconds, sizes bytes."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on; 0 takes a free one (see `Edge.port`)."""
    reuse_port: bool = False
    """Share the port with other edge processes (SO_REUSEPORT)."""
    backlog: int = 2048
    """Connections that the kernel holds before the edge accepts them."""
    max_connections: int = 20_000
    """Client connections at a time; one more is answered 503 and closed."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose `X-Forwarded-*` and `Forwarded` headers are believed."""
    max_header_bytes: int = 64 * 1024
    """Request line and headers together; more is answered 431 (414 when the target alone is too long)."""
    max_header_fields: int = 200
    """Header fields in one request; more is answered 431."""
    max_body_bytes: int = 0
    """Request body; more is answered 413. 0: no limit (bodies stream and cost no memory)."""
    header_timeout_s: float = 15.0
    """From a request's first byte (or the connection's start) to the end of its head; then 408."""
    keep_alive_s: float = 75.0
    """How long a client connection may stay open between requests."""
    body_idle_s: float = 30.0
    """Longest pause of a client within a request body, and longest stall in reading its response."""
    tunnel_idle_s: float = 3600.0
    """Longest silence of an upgraded connection (WebSocket) in both directions."""
    linger_s: float = 2.0
    """How long unread request bytes are discarded after an early answer, so that the client can read it."""
    queue_calls: int = 10_000
    """Calls that may wait for one revision; one more is answered 503 at once."""
    queue_bytes: int = 64 * 1024 * 1024
    """Bytes that calls waiting for one revision may hold; more is answered 503 at once."""
    queue_timeout_s: float = 60.0
    """Longest wait for a replica; then 504, or 503 where nobody is there who would start one."""
    held_body_bytes: int = 64 * 1024
    """How much of one request body is held while its call waits, and for trying it again; the rest stays unread."""
    inner_folder: str = ""
    """Folder for the socket on which asynchronous calls come back to be carried out; empty: there is none."""
    control_timeout_s: float = 600.0
    """Longest wait for the first byte of a control API response."""
    upstream_connect_s: float = 5.0
    """Longest time to connect to a replica."""
    upstream_idle_s: float = 50.0
    """How long an unused connection to a replica is kept."""
    spans: str = ""
    """Unix socket of the process that exports spans; without one nothing is traced."""
    trace_ratio: float = 0.0
    """Share of the calls that are traced, of those whose client says nothing of it."""
    name: str = "edge"
    """What load samples call this edge."""

    @property
    def inner_socket(self) -> str:
        """The Unix socket of this edge's inner side; empty where it has none."""
        return inner_socket(self.inner_folder, self.name) if self.inner_folder else ""


def inner_socket(folder: str, name: str) -> str:
    """Return the path of the inner socket of the edge `name`, of which the end tells edges apart: paths are short."""
    return f"{folder}/inner-{name[-20:]}.sock"
