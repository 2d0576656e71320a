"""A fork server: asked over a socket to fork, it hands each fork the files that came along, and tells how it ended.

The keeper talks to it over one SOCK_SEQPACKET socket, a JSON object a packet:

    → {"do": "fork", "id": ID, …}  with files
    ← {"event": "forked", "id": ID, "pid": PID}
    ← {"event": "failed", "id": ID, "step": "fork", "errno": N, "text": TEXT}
    ← {"event": "ended", "id": ID, "status": N | null, "signal": N | null, "max_rss_kib": N}

What the loop needs is taken from its modules before any handler is imported, which may replace it there (gevent does).
"""

from __future__ import annotations

import _socket
import array
import fcntl
import os
from json import dumps, loads
from os import _exit, close, fork, pidfd_open, wait4
from select import POLLIN, poll

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

PACKET_BYTES = 1 << 16
FILES = 5
OUT_OF_REACH = 512  # imports that daemonise close every descriptor up to some low number


class ForkServer:
    """`control` is the number of the socket's descriptor."""

    def __init__(self, control: int) -> None:
        self._control = _socket.socket(fileno=out_of_reach(control))
        self._children: dict[int, tuple[str, int]] = {}  # pidfd → (id, pid)

    def fileno(self) -> int:
        return self._control.fileno()

    def run(self, become: Callable[[dict[str, Any], list[int]], NoReturn]) -> NoReturn:
        """Fork until the keeper is gone. `become(message, files)` is called in each fork."""
        waiting = poll()
        waiting.register(self._control.fileno(), POLLIN)
        while True:
            for fd, _ in waiting.poll():
                if fd in self._children:
                    waiting.unregister(fd)
                    self._ended(fd)
                    continue
                packet, fds = _receive(self._control)
                if not packet:
                    _exit(0)
                pidfd = self._fork(become, loads(packet), fds)
                if pidfd is not None:
                    waiting.register(pidfd, POLLIN)

    def leave(self) -> None:
        """Close, in a fork, what is the server's own."""
        self._control.close()
        for pidfd in self._children:
            close(pidfd)

    def _fork(
        self, become: Callable[[dict[str, Any], list[int]], NoReturn], message: dict[str, Any], fds: list[int]
    ) -> int | None:
        try:
            pid = fork()
        except OSError as error:
            self._tell(event="failed", id=message["id"], step="fork", errno=error.errno, text=os.strerror(error.errno or 0))
            pid = -1
        if pid == 0:
            become(message, fds)
        for fd in fds:
            close(fd)
        if pid < 0:
            return None
        self._tell(event="forked", id=message["id"], pid=pid)
        pidfd = pidfd_open(pid)
        self._children[pidfd] = (message["id"], pid)
        return pidfd

    def _ended(self, pidfd: int) -> None:
        identity, pid = self._children.pop(pidfd)
        close(pidfd)
        _, status, usage = wait4(pid, 0)
        killed = os.WIFSIGNALED(status)
        self._tell(
            event="ended",
            id=identity,
            status=None if killed else os.WEXITSTATUS(status),
            signal=os.WTERMSIG(status) if killed else None,
            max_rss_kib=usage.ru_maxrss,
        )

    def _tell(self, **message: Any) -> None:
        try:
            self._control.send(dumps(message).encode())
        except OSError:
            _exit(0)  # the keeper is gone


def out_of_reach(fd: int) -> int:
    """Return the number to which the descriptor has moved."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_REACH)
    os.close(fd)
    return moved


def _receive(control: _socket.socket) -> tuple[bytes, list[int]]:
    """Return the next packet and its files; nothing when there will be none. `socket.recv_fds` without its module."""
    try:
        packet, ancillary, _, _ = control.recvmsg(PACKET_BYTES, _socket.CMSG_LEN(FILES * 4), _socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return b"", []
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, list(fds)
