"""Listening: accepts clients up to a limit, and stops without cutting a call."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import cast

from gateway.edge.client import ClientConnection
from gateway.edge.context import EdgeContext
from gateway.edge.inner import InnerConnection
from gateway.edge.private_socket import private_socket
from gateway.edge.refusal import Refusal


class _TurnedAway(asyncio.Protocol):
    """A client beyond the limit: told so, and closed."""

    def __init__(self, context: EdgeContext) -> None:
        self._context = context

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        limit = self._context.settings.max_connections
        self._context.turned_away += 1
        refusal = Refusal(503, f"this gateway has {limit} connections, the most it may have", retry_after_s=1)
        stream = cast(asyncio.WriteTransport, transport)
        stream.write(refusal.response(extra=self._context.date, head_only=False, close=True))
        stream.close()


class Server:
    """The edge's listening socket. `port` is the one it listens on."""

    def __init__(self, context: EdgeContext) -> None:
        self._context = context
        self._server: asyncio.Server | None = None
        self._inner: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken or not ours."""
        settings = self._context.settings
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            settings.host,
            settings.port,
            backlog=settings.backlog,
            reuse_port=settings.reuse_port or None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        if settings.inner_socket:  # whoever connects there is believed
            inner = private_socket(Path(settings.inner_socket))
            self._inner = await asyncio.get_running_loop().create_unix_server(
                self.accept_inner, sock=inner, backlog=settings.backlog
            )

    async def drain(self, timeout_s: float) -> bool:
        """Accept no more and wait for the calls in progress. Returns whether all ended in time."""
        self._close()
        self._context.draining = True
        connections = self._context.connections
        for connection in list(connections):
            connection.close_if_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._context.nobody.wait()
        return not connections

    async def stop(self) -> None:
        """Close the socket and break what is still connected."""
        if self._server is None:
            return
        self._close()
        for connection in list(self._context.connections):
            connection.abort()
        await self._context.nobody.wait()
        self._server = None

    def accept_inner(self) -> asyncio.Protocol:
        """Return what serves a new connection of a worker's. Raises ConnectionRefusedError unless it listens."""
        if self._server is None or self._context.draining:
            raise ConnectionRefusedError("the edge takes no connections")
        return InnerConnection(self._context)

    def _close(self) -> None:
        for server in (self._server, self._inner):
            if server is not None:
                server.close()

    def _accept(self) -> asyncio.Protocol:
        if len(self._context.connections) >= self._context.settings.max_connections:
            return _TurnedAway(self._context)
        return ClientConnection(self._context)
