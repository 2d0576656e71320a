"""Keeps web pages away from an API that listens on the user's own machine.

A page of any site can make the browser send requests to 127.0.0.1, with the login that the browser remembers. Three
ways, three checks, on every request:

* a name of the attacker's that resolves to this machine (DNS rebinding) shows in `Host`, which must be a name that this
  gateway is known by. An address is always right: rebinding needs a name.
* a page of another site, or of another port, shows in `Origin` and `Sec-Fetch-Site`, which must be absent or same-origin.
* a browser too old for either can still send the content types that need no preflight (forms, text/plain); a change asked
  for by such a browser without proof of its origin is refused.

Programs that are no browser send none of this and pass with any content type.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.control import errors

_PORTS = {"http": 80, "https": 443}
_READING = ("GET", "HEAD", "OPTIONS")
_NO_PREFLIGHT = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")


class Hosts:
    """The names this gateway is called by. `allowed` are further ones, as `NAME` or `NAME:PORT`; `bound` what it listens on."""

    def __init__(self, allowed: Iterable[str] = (), bound: str = "") -> None:
        own = socket.gethostname().lower()
        self._allowed = {entry.strip().lower() for entry in allowed if entry.strip()}
        self._names = {"localhost", own, f"{own}.local", bound.lower(), *map(_name, self._allowed)} - {""}

    def knows(self, host: str) -> bool:
        """Whether `host`, a Host header, names this gateway: by address, or by a name of its own. The port is not looked at."""
        name = _name(host)
        return name in self._names or name.endswith(".localhost") or _is_address(name)

    def is_same_origin(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` and this gateway at `host` are one site to the browser.

        A proxy in front may change `Host` or serve TLS; then the origin is one that was allowed by name.
        """
        try:
            parts = urlsplit(origin)
            default = _PORTS.get(parts.scheme)
            port = parts.port or default
        except ValueError:
            return False
        if default is None or not parts.hostname or parts.path or parts.query or parts.username is not None:
            return False
        if (parts.hostname, port) == _host_and_port(host, default):
            return True
        return any(_host_and_port(entry, default) == (parts.hostname, port) for entry in self._allowed)


class OriginGuard:
    """ASGI middleware: answers 403 and one sentence to what a foreign web page sent."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and (reason := refusal(self._hosts, scope["method"], Headers(scope=scope))):
            await errors.text(403, reason)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(hosts: Hosts, method: str, headers: Headers) -> str:
    """Return why a request with these headers is refused, or nothing when it may pass."""
    names = headers.getlist("host")
    if len(names) > 1 or (names and not hosts.knows(names[0])):
        named = ", ".join(names)
        return f"this gateway is not known by the name {named!r}; if it is right, start it with --allow-hosts {names[0]}"
    origins = headers.getlist("origin")
    if any(not hosts.is_same_origin(origin, names[0] if names else "") for origin in origins):
        return f"a page of {', '.join(origins)!r} may not use this gateway; pages of its own may"
    site = headers.get("sec-fetch-site", "none").lower()
    if site not in ("none", "same-origin"):
        return "a page of another site may not use this gateway; type its address into the browser"
    if method not in _READING and not origins and site == "none" and _is_browser(headers):
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _NO_PREFLIGHT:
            return f"a browser may not send {kind or 'a body of no type'} here; send application/json"
    return ""


def _is_browser(headers: Headers) -> bool:
    return headers.get("user-agent", "").startswith("Mozilla/") or "referer" in headers or "cookie" in headers


def _name(host: str) -> str:
    """Return `host` without its port, brackets and final dot, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return (name.rpartition(":")[0] if name.count(":") == 1 else name).removesuffix(".")


def _host_and_port(host: str, default: int) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname or "", parts.port or default
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
