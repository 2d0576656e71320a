"""TCP ports on the loopback interface, for replicas that listen on one themselves instead of inheriting a socket.

A port is only known to be free, not held: between that and the program's own bind it could be taken. So readiness asks
whose the listening socket is (`owner`) before any call goes there.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST_PORT = 20_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"


class NoFreePort(OSError):
    """Every port that replicas may have is taken."""


class Ports:
    """Gives each replica another port, below those that the kernel gives to outgoing connections."""

    def __init__(self) -> None:
        self._range = range(FIRST_PORT, max(FIRST_PORT + 1000, _first_ephemeral()))
        self._next = self._turns()

    def free(self) -> int:
        """Return a port on which nobody listens, and that no recent call returned. Raises NoFreePort."""
        for _ in self._range:
            port = next(self._next)
            with socket.socket() as probe:
                try:
                    probe.bind(("", port))
                except OSError:
                    continue
                return port
        raise NoFreePort(f"no TCP port from {self._range.start} to {self._range.stop - 1} is free")

    def _turns(self) -> Iterator[int]:
        at = random.randrange(len(self._range))  # noqa: S311  # two platforms should not try the same ones in the same order
        while True:
            yield self._range[at]
            at = (at + 1) % len(self._range)


def owner(port: int) -> int | None:
    """Return the uid of who listens on the TCP port, None when nobody does (proc(5), /proc/net/tcp)."""
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                return int(fields[7])
    return None


def _first_ephemeral() -> int:
    try:
        return int(EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
