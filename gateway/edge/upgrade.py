"""Requests that ask to switch protocols (RFC 9110 section 7.8).

llhttp takes such a request for complete at its head, whatever follows. A server may ignore Upgrade: the edge does so
for h2c, which no replica speaks, and for a request with a body, whose framing is then told to the parser once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httptools import HttpRequestParser

from gateway.edge.headers import tokens
from gateway.edge.request import RequestHead

if TYPE_CHECKING:
    from gateway.edge.upstream import UpstreamConnection


class Upgrade:
    """What became of the last such request on a connection.

    `pending` from its head until the replica has answered, `tunnel` once that has switched, `skipped` while the parser
    takes a body that comes for something else. `retelling` while that is put right: what it calls back means nothing.
    """

    __slots__ = ("_framing", "pending", "retelling", "tunnel")

    def __init__(self) -> None:
        self._framing = b""
        self.pending = False
        self.retelling = False
        self.tunnel: UpstreamConnection | None = None

    def consider(self, head: RequestHead) -> None:
        """Decide whether the request may become a tunnel; if not, its Upgrade is as good as not said."""
        if head.chunked:
            self._framing = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        elif head.length:
            self._framing = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % head.length
        elif b"h2c" not in tokens([head.upgrade]):
            self.pending = True
            return
        head.upgrade = b""

    @property
    def skipped(self) -> bool:
        """Whether the parser took the request for complete though its body comes."""
        return bool(self._framing)

    def retell(self, parser: HttpRequestParser) -> None:
        """Make the parser read a body, if one comes."""
        if self._framing:
            framing, self._framing = self._framing, b""
            self.retelling = True
            parser.feed_data(framing)
            self.retelling = False
