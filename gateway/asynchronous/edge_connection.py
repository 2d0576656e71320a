"""A connection of an edge to the acceptor: one request after the other is read, and answered.

What comes whole in one read, as most submissions do, is read without the parser (`heads`) and kept along with others that
come at the same time (`gathering`). A longer body is gathered in a `Spool` while it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import httptools
import msgspec

from gateway.asynchronous.calls import INLINE_BYTES, Call, Headers, State, Submission
from gateway.asynchronous.heads import WholeRequest, whole_request
from gateway.asynchronous.intake import Target, submission_of
from gateway.asynchronous.refusals import not_accepted, out_of_reach, too_long, unknown
from gateway.asynchronous.spool import Spool
from gateway.asynchronous.store import StoreUnavailable
from gateway.asynchronous.told import told
from gateway.edge.refusal import Refusal
from orchestration.duration import InvalidDuration, parse_duration_s
from orchestration.names import parse_function_id

if TYPE_CHECKING:
    from gateway.asynchronous.acceptor import Acceptor

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_READS: Final = ("GET", "HEAD", "DELETE")


class EdgeConnection(asyncio.Protocol):
    """Serves an edge for `acceptor`."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._writable.set()
        self._in_message = False
        self._head_only = False
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._wanted: Submission | None = None
        self._spool: Spool | None = None
        self._answered = False
        self._reading: asyncio.Task[None] | None = None

    # transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._acceptor.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if not self._in_message and (whole := whole_request(data)) is not None:
            self._came_whole(whole)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Refusal(400, "an asynchronous call cannot switch protocols"))
        except httptools.HttpParserError:
            self.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._acceptor.connections.discard(self)
        self._writable.set()
        if self._spool is not None:
            self._acceptor.begin(self._spool.discard())
            self._spool = None
        if self._reading is not None:
            self._reading.cancel()  # whoever waited has left; a submission goes on

    def close(self) -> None:
        """Close, whatever goes on."""
        self._transport.abort()

    def _came_whole(self, request: WholeRequest) -> None:
        self._answered = False
        wanted = self._asked(request.method, request.target, request.headers, request.body)
        if wanted is None:
            return
        if len(request.body) > self._acceptor.settings.body_bytes:
            self._refuse(too_long(self._acceptor.settings))
        elif wanted.idempotency_key or len(request.body) > INLINE_BYTES:
            self._acceptor.begin(self._ended_by(self._submit(wanted, request.body)))
        else:
            self._acceptor.submit_soon(wanted, self)

    # parser

    def on_message_begin(self) -> None:
        self._in_message = True
        self._url, self._headers = b"", []
        self._wanted = self._spool = None
        self._answered = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        acceptor = self._acceptor
        headers: Headers = tuple(self._headers)
        wanted = self._asked(self._parser.get_method().decode("latin-1"), self._url.decode("latin-1"), headers)
        if wanted is None:
            return
        length = next((value for name, value in headers if name.lower() == "content-length"), "0")
        if int(length) > acceptor.settings.body_bytes:
            self._refuse(too_long(acceptor.settings))
            return
        self._wanted = wanted
        self._spool = Spool(acceptor.store.spool, self._transport.pause_reading, self._transport.resume_reading)

    def on_body(self, data: bytes) -> None:
        if self._spool is None:
            return
        self._spool.feed(data)
        if self._spool.size > self._acceptor.settings.body_bytes:
            self._refuse(too_long(self._acceptor.settings))

    def on_message_complete(self) -> None:
        self._in_message = False
        wanted, spool = self._wanted, self._spool
        self._spool = None
        if wanted is not None and spool is not None:
            self._acceptor.begin(self._ended_by(self._submit_spooled(wanted, spool)))

    # what is asked

    def _asked(self, method: str, url: str, headers: Headers, body: bytes = b"") -> Submission | None:
        """Return what is to be kept; None where the head asks for something else, or for nothing that can be: then that is
        seen to."""
        acceptor = self._acceptor
        self._head_only = method == "HEAD"
        target = Target.of(url)
        if method in _READS and not acceptor.functions.knows(parse_function_id(target.name)):
            self._reading = acceptor.begin(self._ended_by(self._read(method, target)))
            return None
        wanted = submission_of(method, target, headers, acceptor.functions, acceptor.settings, acceptor.clock(), body)
        if isinstance(wanted, Refusal):
            self._refuse(wanted)
            return None
        try:
            acceptor.check(headers)
        except ValueError as error:
            self._refuse(Refusal(400, str(error)))
            return None
        return wanted

    # answers

    async def _ended_by(self, work: Coroutine[None, None, None]) -> None:
        """Answer a request by `work`. When that fails as nobody foresaw, the connection ends: its client is not to wait."""
        try:
            await work
        except Exception:
            self.close()
            raise

    async def _submit_spooled(self, wanted: Submission, spool: Spool) -> None:
        try:
            body = await spool.whole()
        except OSError as error:
            self._acceptor.complain(f"{self._acceptor.store.spool}: {error.strerror}")
            self._refuse(not_accepted(error.strerror or str(error)))
            return
        await self._submit(wanted, body)

    async def _submit(self, wanted: Submission, body: bytes | Path) -> None:
        call_id, refusal = await self._acceptor.submit(wanted, body)
        if refusal is not None:
            self._refuse(refusal)
        else:
            self.accepted(call_id)

    def accepted(self, call_id: str) -> None:
        """The call is kept."""
        self._answer(b"HTTP/1.1 202 Accepted\r\nX-Call-Id: %b\r\nContent-Length: 0\r\n\r\n" % call_id.encode())

    def refused(self, refusal: Refusal) -> None:
        """The call is not kept."""
        self._refuse(refusal)

    async def _read(self, method: str, target: Target) -> None:
        path, _, query = target.rest.partition("?")
        if path not in ("/", "/result") or (method == "DELETE" and path != "/"):
            self._refuse(Refusal(404, f"{target.name} is neither a function nor a call with something at {path}"))
            return
        try:
            if method == "DELETE":
                await self._cancel(target.name)
                return
            call = await self._acceptor.ended(target.name, self._wait_s(query))
        except InvalidDuration as error:
            self._refuse(Refusal(400, f"wait: {error}"))
            return
        except StoreUnavailable as error:
            self._refuse(out_of_reach(self._acceptor.said(error)))
            return
        if call is None:
            self._refuse(unknown(target.name))
        elif path == "/result":
            await self._result(call, method == "HEAD")
        else:
            self._json(HTTPStatus.OK, call.id, told(call), method == "HEAD")

    def _wait_s(self, query: str) -> float:
        for part in query.split("&"):
            name, _, text = part.partition("=")
            if name == "wait" and text:
                return min(self._acceptor.settings.wait_s, parse_duration_s(text))
        return 0.0

    async def _cancel(self, call_id: str) -> None:
        state = await self._acceptor.cancel(call_id)
        if state is None:
            self._refuse(unknown(call_id))
        elif state.ended:
            self._refuse(Refusal(409, f"call {call_id} has ended already: it is {state}"))
        else:
            self._json(HTTPStatus.ACCEPTED, call_id, {"id": call_id, "state": State.CANCELLED, "was": state}, False)

    async def _result(self, call: Call, head_only: bool) -> None:
        """Answer as the function did."""
        outcome = call.outcome
        if not call.state.ended:
            self._refuse(Refusal(404, f"call {call.id} has no result yet: it is {call.state}", retry_after_s=1))
            return
        if outcome is None or not outcome.status:
            why = outcome.reason if outcome is not None else f"it is {call.state}"
            self._refuse(Refusal(404, f"call {call.id} has no result: {why}"))
            return
        phrase = _PHRASES.get(outcome.status, "Status")
        lines = [f"HTTP/1.1 {outcome.status} {phrase}", f"X-Call-Id: {call.id}", f"X-Call-State: {call.state}"]
        lines += [f"{name}: {value}" for name, value in outcome.headers]
        if outcome.cut:
            lines.append("X-Result-Cut: true")
        bodiless = outcome.status in (204, 304)
        lines += [] if bodiless else [f"Content-Length: {call.result.size}"]
        self._answer("\r\n".join((*lines, "\r\n")).encode("latin-1"))
        if head_only or bodiless:
            return
        await self._send(self._acceptor.store.chunks(call.result))

    async def _send(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                self._transport.write(chunk)
                await self._writable.wait()
        except (KeyError, StoreUnavailable):
            self.close()  # forgotten in the meantime, or out of reach: the answer breaks off, as its client must see

    def _json(self, status: HTTPStatus, call_id: str, value: object, head_only: bool) -> None:
        body = msgspec.json.encode(value)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nX-Call-Id: {call_id}\r\nContent-Type: application/json\r\n"
            f"Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        self._answer(head if head_only else head + body)

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the request that is being read, or was; what still comes of it is not kept."""
        if self._spool is not None:
            self._acceptor.begin(self._spool.discard())
            self._spool = None
        self._wanted = None
        self._answer(refusal.response(extra=b"", head_only=self._head_only, close=False))

    def _answer(self, data: bytes) -> None:
        if not self._answered and not self._transport.is_closing():
            self._answered = True
            self._transport.write(data)
