"""Requests out of the bytes of one client connection, by way of the parser.

Bytes → `parse` → callbacks → a `Call` for each head, which its client routes and puts behind those that came before;
its body follows. What makes no request becomes a call that is refused, in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from gateway.edge.call import READ, Call
from gateway.edge.refusal import Refusal
from gateway.edge.request import RequestHead
from gateway.edge.timed_call import TimedCall
from gateway.edge.upgrade import Upgrade

if TYPE_CHECKING:
    from gateway.edge.client import ClientConnection


class RequestReader:
    """Reads for `client`. Between two requests it is neither `in_head` nor `in_body`.

    `head_bytes` is what earlier reads held of the head that is being read, `receiving` the call whose body comes.
    """

    __slots__ = (
        "_client",
        "_feed_size",
        "_head",
        "_head_feed",
        "_parser",
        "head_bytes",
        "in_body",
        "in_head",
        "on_header",
        "on_url",
        "receiving",
        "upgrade",
    )

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._head = RequestHead()
        self.on_url = self._head.on_url
        self.on_header = self._head.on_header
        self._parser = httptools.HttpRequestParser(self)
        self._feed_size = self._head_feed = 0
        self.head_bytes = 0
        self.in_head = False
        self.in_body = False
        self.receiving: Call | None = None
        self.upgrade = Upgrade()

    def parse(self, data: bytes | memoryview) -> bytes:
        """Parse what came. Returns what is left of it behind a request that may become a tunnel."""
        self._feed_size = self._head_feed = len(data)
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = memoryview(data)[stopped.args[0] :]
                if self.upgrade.pending:
                    return bytes(data)
                self.upgrade.retell(self._parser)
                continue
            except httptools.HttpParserError as error:
                self._unparsable(bytes(data[:1]), error)
            break
        if self.in_head:
            self._head_goes_on()
        return b""

    def _head_goes_on(self) -> None:
        client = self._client
        settings = client.context.settings
        if not self.head_bytes:
            client.deadline = client.context.now + settings.header_timeout_s
        self.head_bytes += self._head_feed or 1
        if self.head_bytes > settings.max_header_bytes:
            self.malformed(self._head.too_long(settings))

    # parser callbacks (`on_url` and `on_header` are the head's own)

    def on_message_begin(self) -> None:
        self.in_head = True

    def on_headers_complete(self) -> None:
        client, head = self._client, self._head
        self.in_head = False
        if self.upgrade.retelling or client.closing:
            head.reset()
            return
        context = client.context
        self.in_body = True
        refusal = head.problem(self._parser)
        if refusal is None and (head.length or self.head_bytes or self._feed_size > context.small_bytes):
            refusal = head.too_large(context.settings)
        if head.upgrade and refusal is None:
            self.upgrade.consider(head)
        kind = TimedCall if head.timing == b"1" else Call
        call = self.receiving = kind(client, head.method, context.call_ids.marks(head.accepted_call_id()), context.clock())
        call.parsed(head)
        if refusal is not None:
            call.keep_alive = False
            call.refusal = refusal
        else:
            client.route(call, head)
        head.reset()
        client.came(call)

    def on_body(self, data: bytes) -> None:
        call = self.receiving
        if call is None:
            return
        limit = self._client.context.settings.max_body_bytes
        if limit and call.received + len(data) > limit:
            self.reject(call, Refusal(413, f"the request's body is longer than {limit} bytes"))
        else:
            call.receive(data)

    def on_message_complete(self) -> None:
        self.head_bytes = self._head_feed = 0  # the next head's share of this read is unknown, but less than a read
        if self.upgrade.skipped:
            return
        self.in_body = False
        call, self.receiving = self.receiving, None
        if call is not None and not call.complete:
            call.finish_request(self._head.fields)
            self._head.reset()

    # faults of the client

    def _unparsable(self, first: bytes, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserInvalidMethodError) and self._client.call is None and first.isupper():
            self.malformed(Refusal(405, "the method is not one of those served here"))
        else:
            self.malformed(Refusal(400, f"malformed request: {error}"))

    def malformed(self, refusal: Refusal) -> None:
        """The bytes make no request. Nothing after them can be understood."""
        if self.receiving is not None:
            self.reject(self.receiving, refusal)
            return
        client = self._client
        last = client.last
        if client.closing or (last is not None and not last.keep_alive):
            return  # bytes after the last request of a connection mean nothing
        call = Call(client, b"", client.context.call_ids.marks(), client.context.clock())
        call.keep_alive = call.complete = False
        call.refusal = refusal
        client.came(call)

    def reject(self, call: Call, refusal: Refusal) -> None:
        """The body of `call` is not acceptable: answer so if nothing was answered yet, and read no further."""
        self.receiving = None
        self.in_body = False
        call.keep_alive = False
        if call.phase == READ:
            call.refusal = refusal
        else:
            call.cut(refusal)
