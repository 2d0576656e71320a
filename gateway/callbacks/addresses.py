"""To which addresses the platform sends requests that others asked for: a guard against server-side request forgery.

Who may call a function may name a callback, and the platform stands where its callers do not: beside databases, cloud metadata,
other people's services. So it sends to addresses that anybody can reach, and to what the operator lists:

| word | is |
|---|---|
| `public` | every address of the internet that anybody reaches |
| `loopback` | this machine: 127.0.0.0/8, ::1 |
| `10.0.0.0/8`, `fd00::1` | a network, an address |
| `hooks.example.com`, `*.example.com` | a name, whatever it resolves to |
| `*` | everything |

An IPv6 address that carries an IPv4 address is taken where both may be.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

PUBLIC: Final = "public"
LOOPBACK: Final = "loopback"
EVERYTHING: Final = "*"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAME: Final = re.compile(r"(\*\.)?([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?\.)*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?", re.ASCII)

_LOOPBACK: Final = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

# IANA's special-purpose registries (RFC 6890) without what is reachable from everywhere, multicast, and one public address
# that is a cloud's inside. A table of our own, because what `ipaddress` calls global differs between Python's releases.
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own, and Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # also Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",  # also Amazon's metadata
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)

# IPv4-compatible, -mapped, -translated (SIIT), and NAT64: what they clothe is what is reached.
_CLOTHES: Final = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")


class InvalidAllowance(ValueError):
    """A word of the list of allowed addresses that is none; the message says what would be right."""


class Allowed:
    """What a list of words allows. Raises InvalidAllowance."""

    def __init__(self, words: Iterable[str]) -> None:
        self._networks: list[Network] = []
        self._names: set[str] = set()
        self._domains: tuple[str, ...] = ()
        self._public = self._everything = False
        for word in words:
            self._add(word.strip().lower().rstrip("."))

    def _add(self, word: str) -> None:
        if word == EVERYTHING:
            self._everything = True
        elif word == PUBLIC:
            self._public = True
        elif word == LOOPBACK:
            self._networks += _LOOPBACK
        elif (network := _network(word)) is not None:
            self._networks.append(network)
        elif not _NAME.fullmatch(word) or word.replace(".", "").isdigit():
            known = (
                f"{PUBLIC}, {LOOPBACK}, a network such as 10.0.0.0/8, a name such as hooks.example.com or *.example.com, or *"
            )
            raise InvalidAllowance(f"{word[:60]!r}: {known}")
        elif word.startswith("*."):
            self._domains = (*self._domains, word[1:])
        else:
            self._names.add(word)

    def names(self, host: str) -> bool:
        """Whether the list has this name, so that every address of it may be."""
        return self._everything or host in self._names or host.endswith(self._domains)

    def resolves(self, host: str) -> bool:
        """Whether a name that the list may not have can turn out to be an allowed one, by its address."""
        return self.names(host) or self._public or bool(self._networks)

    def address(self, address: Address) -> bool:
        """Whether the list has this address."""
        return self._everything or all(self._one(part) for part in _parts(address))

    def _one(self, address: Address) -> bool:
        if any(address in network for network in self._networks if network.version == address.version):
            return True
        return self._public and is_public(address)


def is_public(address: Address) -> bool:
    """Whether anybody on the internet reaches it; what it carries is not looked at."""
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def is_loopback(address: Address) -> bool:
    """Whether it is this machine, also as an IPv4 address in IPv6's clothes."""
    return all(any(part in net for net in _LOOPBACK if net.version == part.version) for part in _parts(address))


def literal(host: str) -> Address | None:
    """Return the address that `host` is in itself, in any way in which resolvers read one (`2130706433`, `0x7f.1`)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if host.isascii() and " " not in host else None
    except OSError:
        return None


def _network(word: str) -> Network | None:
    try:
        return ipaddress.ip_network(word, strict=False)
    except ValueError:
        return None


def _parts(address: Address) -> Iterator[Address]:
    """Yield what is reached by `address`: itself, unless it only clothes an IPv4 address, and the IPv4 addresses in it."""
    if isinstance(address, IPv4Address):
        yield address
        return
    bare = IPv6Address(int(address))  # without a zone
    low = IPv4Address(int(bare) & 0xFFFF_FFFF)
    if any(bare in network for network in _CLOTHES) and int(bare) > 1:
        yield low
    elif bare in _SIX_TO_FOUR:
        yield bare
        yield IPv4Address(int(bare) >> 80 & 0xFFFF_FFFF)
    elif bare in _TEREDO:
        yield bare
        yield IPv4Address(~int(bare) & 0xFFFF_FFFF)
    else:
        yield bare
        if int(bare) >> 32 & 0xFCFF_FFFF == 0x5EFE:  # ISATAP (RFC 5214)
            yield low
