"""One HTTP exchange with a registry: connections that are kept, time limits, redirects, failures in words.

A redirect is followed at most five times, never from TLS to plain HTTP, and once it leaves the origin (scheme, host, port)
that the credentials are for without `Authorization`, and not at all with a body, which may hold a token: a registry may
send us to a storage service, or to a thief.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from builder.registry.errors import RegistryError, RegistryUnreachable, TransferBroken

CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 60.0
MOST_REDIRECTS = 5
LARGEST_ANSWER_BYTES = 4 << 20
_PIECE_BYTES = 1 << 20
_SHORT_BYTES = 64 << 10
_REDIRECTS = (301, 302, 303, 307, 308)

Origin = tuple[str, str, int]


@dataclass
class Answer:
    """An answer whose body is yet to be read: by `read` whole, or by `pieces`. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    url: str
    _response: http.client.HTTPResponse
    _transport: Transport

    def read(self) -> bytes:
        """Return the body. Raises RegistryError when it is larger than any document."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > LARGEST_ANSWER_BYTES:
                raise RegistryError(f"{host_of(self.url)} answers with more than {LARGEST_ANSWER_BYTES} bytes")
        return bytes(body)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises TransferBroken when it ends early or pauses for SILENCE_S."""
        while True:
            try:
                piece = self._response.read1(_PIECE_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise TransferBroken(f"{host_of(self.url)} broke off in the middle of its answer: {_reason(error)}") from None
            if not piece:
                if self._response.length:
                    raise TransferBroken(f"{host_of(self.url)} broke off {self._response.length} bytes before its answer's end")
                return
            yield piece


class Transport:
    """Keeps one connection for each origin and thread; a context manager that closes them all. Threads may share it.

    `silence_s` is how long a registry may say nothing in the middle of an exchange.
    """

    def __init__(self, *, silence_s: float = SILENCE_S) -> None:
        self._silence_s = silence_s
        self._of_thread = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()

    @contextlib.contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        follow: bool = True,
    ) -> Iterator[Answer]:
        """Send one request, follow redirects, and yield the answer, whatever its status.

        Raises RegistryUnreachable, TransferBroken, and RegistryError for redirects that are not followed.
        """
        fields = {"User-Agent": "pinnace", **headers}
        for _ in range(MOST_REDIRECTS + 1):
            connection, response = self._send(method, url, fields, body)
            if not follow or response.status not in _REDIRECTS or not (target := response.headers.get("Location")):
                break
            self._done(connection, response)
            there = joined(url, target)
            if origin_of(there) != origin_of(url):
                if urlsplit(url).scheme == "https" and urlsplit(there).scheme != "https":
                    raise RegistryError(f"{host_of(url)} redirects to {host_of(there)} without TLS, which is not followed")
                if body:
                    raise RegistryError(f"{host_of(url)} redirects a {method} to {host_of(there)}, which is not followed")
                fields = {name: value for name, value in fields.items() if name.lower() != "authorization"}
            if response.status in (301, 302, 303) and method not in ("GET", "HEAD"):
                raise RegistryError(
                    f"{host_of(url)} redirects a {method} with status {response.status}, which loses what is sent"
                )
            url = there
        else:
            raise RegistryError(f"{host_of(url)} redirects more than {MOST_REDIRECTS} times")
        try:
            yield Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, url, response, self)
        finally:
            self._done(connection, response)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = _checked(url)
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        while True:
            connection, fresh = self._connection(parts)
            try:
                if connection.sock is None:
                    self._connect(connection, parts)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it read all
                    connection.request(method, target, body=body, headers=dict(headers))
                return connection, connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                idle = not fresh and isinstance(error, ConnectionError | http.client.BadStatusLine)
                if idle and method in ("GET", "HEAD"):
                    continue  # a kept connection that the other side had closed meanwhile
                if isinstance(error, RegistryError):
                    raise
                raise TransferBroken(f"{parts.netloc} broke off: {_reason(error)}") from None

    def _connection(self, parts: SplitResult) -> tuple[http.client.HTTPConnection, bool]:
        """The thread's connection for that origin, and whether nothing was sent over it yet."""
        kept: dict[Origin, http.client.HTTPConnection] = self._of_thread.__dict__.setdefault("kept", {})
        origin = origin_of(parts.geturl())
        connection = kept.get(origin)
        if connection is not None and connection.sock is not None:
            return connection, False
        connection = self._new_connection(parts)
        kept[origin] = connection
        with self._lock:
            self._all.append(connection)
        return connection, True

    def _new_connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(host):
            through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            connection = self._made(parts.scheme, through.hostname or "", through.port or 8080)
            connection.set_tunnel(host, port or (443 if parts.scheme == "https" else 80), _proxy_login(through))
            return connection
        return self._made(parts.scheme, host, port)

    def _made(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        with self._lock:
            self._tls = self._tls or ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=self._tls)

    def _connect(self, connection: http.client.HTTPConnection, parts: SplitResult) -> None:
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            through = f"{connection.host}:{connection.port}"
            _cannot_connect(error, parts, "" if connection.host == parts.hostname else f" (through the proxy {through})")
        connection.sock.settimeout(self._silence_s)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _done(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        """Keep the connection when the whole answer is read or its rest is short, else close it."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            response.read(_SHORT_BYTES)
        if not response.isclosed() or response.will_close:
            response.close()
            connection.close()


def origin_of(url: str) -> Origin:
    """Return scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def joined(url: str, target: str) -> str:
    """Return where a `Location` leads from `url`. Raises RegistryError for what is no address."""
    try:
        return _checked(urljoin(url, target)).geturl()
    except ValueError:
        raise RegistryError(f"{host_of(url)} sends us to {target[:100]!r}, which is no address") from None


def host_of(url: str) -> str:
    """Return the host with its port, for messages: the rest of a URL may hold secrets."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _checked(url: str) -> SplitResult:
    """Return the parts of a URL that may come from a stranger. Raises RegistryError."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or re.search(r"[\x00-\x20\x7f]", url):
        raise RegistryError(f"a registry sends us to {url[:100]!r}, which is no address")
    return parts


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _cannot_connect(error: OSError, parts: SplitResult, how: str) -> NoReturn:
    name = parts.netloc
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted: {error.verify_message} (SSL_CERT_FILE names a file of authorities)"
    elif isinstance(error, ssl.SSLError):
        reason = f"no TLS: {error.reason or error} (a registry without TLS must be listed: PINNACE_PLAIN_HTTP={name})"
    elif isinstance(error, socket.gaierror):
        reason = "the name is not known (DNS)"
    elif isinstance(error, TimeoutError):
        reason = f"no answer within {CONNECT_TIMEOUT_S:g} s"
    else:
        reason = error.strerror or str(error)
    raise RegistryUnreachable(f"the registry {name} cannot be reached{how}: {reason}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it fell silent"
    if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionError):
        return "it closed the connection"
    return str(error) or type(error).__name__
