"""A callback's URL: what may stand in it, and where it leads."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gateway.callbacks.addresses import Address, Allowed, is_loopback, literal

LONGEST_URL: Final = 2048
_PRINTABLE: Final = re.compile(r"[!-~]+", re.ASCII)
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
_SCHEMES: Final = {"http": 80, "https": 443}


class InvalidCallback(ValueError):
    """A URL that is none, or leads to where the platform sends nothing; the message says what would be right."""


class Target(NamedTuple):
    """`authority` is the Host header, `host` what is resolved and what the certificate must be for, `path` has the query."""

    secure: bool
    host: str
    port: int
    authority: str
    path: str


class Guard:
    """Decides where callbacks may go: what `allowed` has, and the platform's `own_port` on this machine (0: none)."""

    def __init__(self, allowed: Allowed, own_port: int = 0) -> None:
        self._allowed = allowed
        self.own_port = own_port

    def check(self, url: str) -> Target:
        """Return where `url` leads. What a name resolves to is looked at when it is sent. Raises InvalidCallback."""
        target = parse(url)
        address = literal(target.host)
        if not self._allowed.resolves(target.host) and address is None and target.port != self.own_port:
            raise InvalidCallback(f"callbacks to {target.host} are not allowed here; {HOW}")
        if address is not None and not self.permits(target, address):
            raise InvalidCallback(refusal(target, address))
        return target

    def permits(self, target: Target, address: Address) -> bool:
        """Whether a request for `target` may go to `address`, which its host is or resolves to."""
        if self._allowed.names(target.host) or self._allowed.address(address):
            return True
        return bool(self.own_port) and target.port == self.own_port and is_loopback(address)


HOW: Final = "who runs the platform can allow them with --callback-allow"


def refusal(target: Target, address: Address) -> str:
    """Say that `target` leads to an address that is not allowed; the address itself only where the URL has it already."""
    if literal(target.host) is not None:
        return f"callbacks to {address} are not allowed here; {HOW}"
    return f"{target.host} has no address that callbacks may go to; {HOW}"


def parse(url: str) -> Target:
    """Return what `url` says. Raises InvalidCallback."""
    if len(url) > LONGEST_URL:
        raise InvalidCallback(f"the callback's URL has {len(url)} characters: at most {LONGEST_URL}")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise _invalid(url, "it must be printable ASCII without spaces and backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
    except ValueError as error:
        raise _invalid(url, str(error)) from None
    if parts.scheme not in _SCHEMES:
        raise _invalid(url, "it must begin with http:// or https://")
    if "@" in parts.netloc:
        raise InvalidCallback("the callback's URL must not have a user name or password")  # and nobody is to read it here
    if not host or "%" in host or port == 0:
        raise _invalid(url, "it needs a host, and a port from 1 to 65535 where it has one")
    if literal(host) is None and not _NAME.fullmatch(host):
        raise _invalid(url, f"{host[:80]!r} is neither a name nor an address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port or _SCHEMES[parts.scheme], parts.netloc, path)


def _invalid(url: str, why: str) -> InvalidCallback:
    shown = url if len(url) <= 100 else url[:100] + "…"
    return InvalidCallback(f"the callback's URL {shown!r} cannot be: {why}")
