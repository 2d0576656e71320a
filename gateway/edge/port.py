"""The port that several edges share: found free and held before any of them listens."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

_ANY: Final = 0


class SharedPort:
    """Binds the port without listening, so that connections go to the edges alone and the port stays theirs while all
    of them are dead. `number` is the port; asked for 0, a free one."""

    def __init__(self, host: str, port: int) -> None:
        self.number = port
        self._host = host
        self._held: list[socket.socket] = []

    async def hold(self) -> None:
        """Take the port. Raises OSError when somebody has it, also another platform's edges that would share it."""
        found = await asyncio.get_running_loop().getaddrinfo(
            self._host or None, self.number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, _, _, _, (host, _, *scope) in found:
                if self.number != _ANY:
                    _bound(family, (host, self.number, *scope), share=False).close()
                sock = _bound(family, (host, self.number, *scope), share=True)
                self._held.append(sock)
                self.number = sock.getsockname()[1]
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Let go of it."""
        for sock in self._held:
            sock.close()
        self._held.clear()


def _bound(family: int, address: tuple[object, ...], *, share: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
