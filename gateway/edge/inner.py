"""The edge's inner side: a Unix socket on which the platform's own workers call functions, like any client, but believed."""

from __future__ import annotations

import asyncio

from gateway.edge.client import ClientConnection
from gateway.edge.request import forwarded_lines


class InnerConnection(ClientConnection):
    """A worker: what it says of the client for whom it calls is passed on as it says it, without its own address."""

    __slots__ = ()
    hears_of_traces = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._peer = b""
        self._forwarded = forwarded_lines(b"")
        self._trusted = True
