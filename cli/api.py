"""The client's side of a gateway: one HTTP call at a time, each with a time limit, each failure one sentence.

It is built on `http.client` because a command line has a budget of milliseconds: the usual clients take longer to
import than most commands take to run.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from cli.credentials import Login
from cli.errors import GatewayRefused, GatewayUnreachable, NotLoggedIn

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 60.0
LARGEST_REPLY_BYTES = 64 << 20
LONGEST_LINE_BYTES = 16 << 20
_CHUNK_BYTES = 64 << 10

Query = Mapping[str, object]


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value. Raises GatewayRefused when it is not JSON: then no gateway answered."""
        try:
            return json.loads(self.body)
        except (ValueError, UnicodeDecodeError):
            raise GatewayRefused(self.status, f"the answer is not JSON: {_first_line(self.body) or 'it is empty'}") from None


@dataclass(frozen=True)
class StreamedReply:
    """An answer whose body is read as it comes."""

    status: int
    headers: Mapping[str, str]
    _response: http.client.HTTPResponse
    _fail: Callable[[Exception], NoReturn] = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives. Raises GatewayUnreachable when the connection breaks or falls silent."""
        while True:
            try:
                chunk = self._response.read1(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                self._fail(error)
            if not chunk:
                if self._response.length:  # what the Content-Length announced and never came
                    self._fail(http.client.IncompleteRead(b"", self._response.length))
                return
            yield chunk

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines without their ends, as they arrive. Raises like `chunks`."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > LONGEST_LINE_BYTES:
                raise GatewayRefused(self.status, f"a line of more than {LONGEST_LINE_BYTES >> 20} MiB: no gateway's answer")
        if rest:
            yield rest

    def read(self) -> bytes:
        """Return the rest of the body, at most LARGEST_REPLY_BYTES."""
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > LARGEST_REPLY_BYTES:
                raise GatewayRefused(self.status, f"an answer of more than {LARGEST_REPLY_BYTES >> 20} MiB")
        return bytes(body)


class Gateway:
    """A gateway at `url` (normalised), called with `login` when there is one.

    `verify_tls=False` accepts any certificate. Each call has its own connection and nothing stays open between calls,
    so one object serves several threads.
    """

    def __init__(self, url: str, login: Login | None = None, *, verify_tls: bool = True) -> None:
        self.url = url
        self.login = login
        self._parts = urlsplit(url)
        self._verify_tls = verify_tls

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        accept: Iterable[int] = (200, 201, 202),
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> Reply:
        """Make one call of the API; `content` is sent as JSON. Return the reply when its status is in `accept`.

        Raises GatewayUnreachable, NotLoggedIn (401, 403), GatewayRefused (any other status, with the gateway's reason).
        """
        fields = {"Accept": "application/json", **(headers or {})}
        body = None
        if content is not None:
            body = json.dumps(content).encode()
            fields["Content-Type"] = "application/json"
        with self.stream(method, path, query=query, body=body, headers=fields, timeout_s=timeout_s) as streamed:
            reply = Reply(streamed.status, streamed.headers, streamed.read())
        if reply.status not in accept:
            self.refuse(reply)
        return reply

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = REPLY_TIMEOUT_S,
        login: bool = True,
    ) -> Iterator[StreamedReply]:
        """Make a call whose answer is read as it comes, whatever its status; the connection closes at the end.

        `timeout_s` is the longest silence; None waits for ever, for streams that follow something. A `body` that is
        iterated over is sent in chunks unless `headers` give its Content-Length. `login=False` keeps the login to
        ourselves (calls of functions). Raises GatewayUnreachable.
        """
        target = quote(f"{self._parts.path}{path}", safe="/%:@!$&'()*+,;=~-._")
        if given := {k: v for k, v in (query or {}).items() if v not in (None, "")}:
            target += "?" + urlencode(given)
        fields = {"User-Agent": "pinnace", **(headers or {})}
        if login and self.login is not None:
            fields["Authorization"] = self.login.authorization
        connection = self._connection()

        def fail(error: Exception) -> NoReturn:
            raise self._unreachable(error, timeout_s) from None

        with closing(connection):
            try:
                response = _exchange(connection, method, target, body, fields, timeout_s)
            except (OSError, http.client.HTTPException) as error:
                fail(error)
            with response:  # it may hold the socket longer than the connection does
                lowered = {name.lower(): value for name, value in response.getheaders()}
                yield StreamedReply(response.status, lowered, response, fail)

    def refuse(self, reply: Reply) -> NoReturn:
        """Raise what an error status means: NotLoggedIn or GatewayRefused with the gateway's reason."""
        reason = reason_of(reply)
        if reply.status == 401:
            what = "not accepted" if self.login is not None else "needed"
            raise NotLoggedIn(f"a login is {what} at {self.url}; log in: faas login -g {self.url}")
        if reply.status == 403:
            raise NotLoggedIn(f"{self.url} does not allow it: {reason}")
        raise GatewayRefused(reply.status, reason)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        context = ssl.create_default_context()
        if not self._verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=context)

    def _unreachable(self, error: Exception, timeout_s: float | None) -> GatewayUnreachable:
        if isinstance(error, _NoConnection):
            cause = error.cause
            if isinstance(cause, ssl.SSLError):
                return GatewayUnreachable(f"no TLS with {self.url}: {_tls_reason(cause)}")
            if isinstance(cause, socket.gaierror):
                return GatewayUnreachable(f"no gateway at {self.url}: the name {self._parts.hostname} is not known")
            return GatewayUnreachable(
                f'no gateway answers at {self.url}: start one with ./scripts/start or "faas serve", or pass --gateway'
            )
        if isinstance(error, TimeoutError):
            return GatewayUnreachable(f"the gateway at {self.url} was silent for {timeout_s or CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionError):
            return GatewayUnreachable(f"the gateway at {self.url} closed the connection before its answer was complete")
        return GatewayUnreachable(f"what answers at {self.url} is not a gateway: {type(error).__name__}: {error}")


class _NoConnection(OSError):
    """Connecting failed, for the reason `cause`."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | Iterable[bytes] | None,
    headers: Mapping[str, str],
    timeout_s: float | None,
) -> http.client.HTTPResponse:
    try:
        connection.connect()
    except OSError as error:
        raise _NoConnection(error) from None
    connection.sock.settimeout(timeout_s)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        chunked = body is not None and not isinstance(body, bytes) and "Content-Length" not in headers
        fields = {**headers, "Transfer-Encoding": "chunked"} if chunked else dict(headers)
        connection.request(method, target, body=body, headers=fields, encode_chunked=chunked)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have answered before it read the whole body (401, 413): that answer says why
    return connection.getresponse()


def reason_of(reply: Reply) -> str:
    """Return why the gateway refused, in one line: its text, a JSON object's message, or the status's name."""
    text = _first_line(reply.body)
    if reply.body.lstrip()[:1] == b"{":
        try:
            fields = json.loads(reply.body)
        except ValueError:
            fields = {}
        text = next((str(fields[key]) for key in ("message", "error", "detail") if fields.get(key)), text)
    if 300 <= reply.status < 400 and (location := reply.headers.get("location")):
        text = f"it has moved to {location}; pass that with --gateway"
    if not text or text.startswith("<"):
        text = http.client.responses.get(reply.status, "no reason given")
    return f"{text} (HTTP {reply.status})"


def _first_line(body: bytes) -> str:
    text = body[:2000].decode(errors="replace").strip()
    line = text.splitlines()[0].strip() if text else ""
    return "".join(c if c.isprintable() else " " for c in line)[:400]


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message} (--tls-no-verify accepts it all the same)"
    return error.reason or str(error)
