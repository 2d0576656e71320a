"""The acceptor: what comes to `/async-function/…` arrives here from the edges, as HTTP/1.1 over a Unix socket.

A submission is answered 202 when the store has it, not before. Whoever knows a call's id may read what became of it and
cancel it: an id has 74 random bits of the platform's, unless the client chose it.

    POST /async-function/NAME/path?query      submit (any method)
    GET /async-function/ID?wait=30s           what is known of the call, once it has ended or the time is over
    GET /async-function/ID/result?wait=30s    what the function answered, as it answered it
    DELETE /async-function/ID                 cancel
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import httptools
import msgspec

from gateway.asynchronous.calls import Call, Headers, State, Submission
from gateway.asynchronous.fingerprint import differs, marked
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.intake import Target, submission_of
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.spool import Spool
from gateway.asynchronous.store import Bounds, QueueFull, Store, StoreUnavailable
from gateway.asynchronous.told import told
from gateway.edge.private_socket import private_socket
from gateway.edge.refusal import Refusal
from orchestration.duration import InvalidDuration, parse_duration_s
from orchestration.names import parse_function_id

log = logging.getLogger("pinnace.async")

RETRY_AFTER_FULL_S: Final = 10
RETRY_AFTER_BROKEN_S: Final = 5
SAY_APART_S: Final = 10.0
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_READS: Final = ("GET", "HEAD", "DELETE")


class Acceptor:
    """Listens on `path` while entered. `cancelled(call id)` is told of calls that were cancelled while they ran; `check`
    looks at a submission's headers, and raises ValueError to refuse it."""

    def __init__(
        self,
        path: Path,
        store: Store,
        functions: Functions,
        settings: AsyncSettings,
        *,
        cancelled: Callable[[str], None] = lambda call_id: None,
        check: Callable[[Headers], None] = lambda headers: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.functions, self.settings = store, functions, settings
        self.cancelled, self.check = cancelled, check
        self.clock = clock
        self.connections: set[_Connection] = set()
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Task[Call | None]] = set()
        self._dismissed = False
        self._unsaid = 0
        self._quiet_until = 0.0

    async def __aenter__(self) -> Self:
        bound = private_socket(self._path)
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(self), sock=bound, backlog=2048)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.close()
        while self._tasks or self.connections:
            await asyncio.gather(*self._tasks, asyncio.sleep(0), return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def complain(self, why: str) -> None:
        """Say that calls are not accepted, once for many: a disk that is full would be filled by saying so."""
        self._unsaid += 1
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + SAY_APART_S
            log.error("asynchronous calls are not accepted (%d since this was said last): %s", self._unsaid, why)
            self._unsaid = 0

    def dismiss(self) -> None:
        """Answer those who wait for a call's end with how it stands: the platform ends."""
        self._dismissed = True
        for wait in self._waits:
            wait.cancel()

    async def ended(self, call_id: str, timeout_s: float) -> Call | None:
        """Return a call once it has ended, or as it is after `timeout_s` and when those who wait are dismissed."""
        if timeout_s <= 0 or self._dismissed:
            return await self.store.get(call_id)
        wait = asyncio.create_task(self.store.ended(call_id, timeout_s))
        self._waits.add(wait)
        try:
            await asyncio.wait([wait])
        finally:
            self._waits.discard(wait)
            wait.cancel()
        return await self.store.get(call_id) if wait.cancelled() else wait.result()

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let something go on that the acceptor's end waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the acceptor of asynchronous calls failed", exc_info=error)

    def bounds(self, queue: str) -> Bounds:
        """Return what may wait in a queue."""
        return self.functions.bounds(queue, self.settings.bounds)

    async def submit(self, wanted: Submission, body: bytes | Path) -> tuple[str, Refusal | None]:
        """Keep a call; return its id, or why it was not kept."""
        submission = msgspec.structs.replace(wanted, body=body)
        try:
            if submission.idempotency_key:
                submission = await marked(submission)
            (receipt,) = await self.store.submit([submission], self.clock(), self.bounds)
            if receipt.repeated and differs(await self.store.get(receipt.id), submission):
                return "", _another_request(submission)
        except QueueFull as error:
            return "", Refusal(429, str(error), retry_after_s=RETRY_AFTER_FULL_S)
        except StoreUnavailable as error:
            self.complain(str(error))
            return "", Refusal(503, f"the call was not accepted: {error}", retry_after_s=RETRY_AFTER_BROKEN_S)
        except OSError as error:
            self.complain(f"{self.store.spool}: {error.strerror}")
            return "", Refusal(503, f"the call was not accepted: {error.strerror}", retry_after_s=RETRY_AFTER_BROKEN_S)
        return receipt.id, None


class _Connection(asyncio.Protocol):
    """A connection of an edge: one request after the other."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._writable.set()
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

    # parser

    def on_message_begin(self) -> None:
        self._url, self._headers = b"", []
        self._wanted = self._spool = None
        self._answered = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        acceptor = self._acceptor
        target = Target.of(self._url.decode("latin-1"))
        method = self._parser.get_method().decode("latin-1")
        headers: Headers = tuple(self._headers)
        if method in _READS and not acceptor.functions.knows(parse_function_id(target.name)):
            self._reading = acceptor.begin(self._ended_by(self._read(method, target)))
            return
        wanted = submission_of(method, target, headers, acceptor.functions, acceptor.settings, acceptor.clock())
        if isinstance(wanted, Refusal):
            self._refuse(wanted)
            return
        try:
            acceptor.check(headers)
        except ValueError as error:
            self._refuse(Refusal(400, str(error)))
            return
        length = next((value for name, value in headers if name.lower() == "content-length"), "0")
        if int(length) > acceptor.settings.body_bytes:
            self._refuse(_too_long(acceptor.settings))
            return
        self._wanted = wanted
        self._spool = Spool(acceptor.store.spool, self._transport.pause_reading, self._transport.resume_reading)

    def on_body(self, data: bytes) -> None:
        if self._spool is None:
            return
        self._spool.feed(data)
        if self._spool.size > self._acceptor.settings.body_bytes:
            self._refuse(_too_long(self._acceptor.settings))

    def on_message_complete(self) -> None:
        wanted, spool = self._wanted, self._spool
        self._spool = None
        if wanted is not None and spool is not None:
            self._acceptor.begin(self._ended_by(self._submit(wanted, spool)))

    # answers

    async def _ended_by(self, work: Coroutine[None, None, None]) -> None:
        """Answer a request by `work`. When that fails as nobody foresaw, the connection ends: its client is not to wait."""
        try:
            await work
        except Exception:
            self.close()
            raise

    async def _submit(self, wanted: Submission, spool: Spool) -> None:
        try:
            body = await spool.whole()
        except OSError as error:
            self._acceptor.complain(f"{self._acceptor.store.spool}: {error.strerror}")
            self._refuse(Refusal(503, f"the call was not accepted: {error.strerror}", retry_after_s=RETRY_AFTER_BROKEN_S))
            return
        call_id, refusal = await self._acceptor.submit(wanted, body)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._answer(b"HTTP/1.1 202 Accepted\r\nX-Call-Id: %b\r\nContent-Length: 0\r\n\r\n" % call_id.encode())

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
            self._refuse(Refusal(503, str(error), retry_after_s=RETRY_AFTER_BROKEN_S))
            return
        if call is None:
            self._refuse(_unknown(target.name))
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
        acceptor = self._acceptor
        state = await acceptor.store.cancel(call_id, acceptor.clock())
        if state is None:
            self._refuse(_unknown(call_id))
        elif state.ended:
            self._refuse(Refusal(409, f"call {call_id} has ended already: it is {state}"))
        else:
            acceptor.cancelled(call_id)
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
        self._answer(refusal.response(extra=b"", head_only=self._parser.get_method() == b"HEAD", close=False))

    def _answer(self, data: bytes) -> None:
        if not self._answered and not self._transport.is_closing():
            self._answered = True
            self._transport.write(data)


def _too_long(settings: AsyncSettings) -> Refusal:
    return Refusal(413, f"the request's body is longer than {settings.body_bytes} bytes, the most that is kept for later")


def _another_request(wanted: Submission) -> Refusal:
    key = wanted.idempotency_key[:60]
    return Refusal(
        422,
        f"the Idempotency-Key {key!r} belongs to another request to {wanted.function}, with another method, path, body, type or"
        " callback: nothing was kept; repeat that request as it was, or take a new key",
    )


def _unknown(call_id: str) -> Refusal:
    if not call_id:
        return Refusal(404, "say which call: /async-function/CALL_ID")
    return Refusal(404, f"{call_id} is neither a function nor a call that is known (any more)")
