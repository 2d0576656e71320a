"""Replicas that a zygote forks: asked of it, known by pidfd, their ends told by it, or by the kernel when it is gone.

A zygote runs code of the function's, so it is believed only what cannot harm others: a fork is taken for a replica when
it is the zygote's child. The zygote is its parent and waits for it; when the zygote ends, the keeper, subreaper above
both, becomes the parent. An end that the zygote does not tell within `TOLD_WITHIN_S` is told without its status.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from orchestration.local.keeper import descent

PACKET_BYTES = 1 << 16
TOLD_WITHIN_S = 1.0

Tell = Callable[..., None]


class _Fork:
    def __init__(self, identity: str, pid: int, pidfd: int, control: int) -> None:
        self.identity = identity
        self.pid = pid
        self.pidfd = pidfd
        self.control = control  # the zygote's; -1 once that is gone
        self.ended_at: float | None = None


class Forks:
    """All zygotes' control sockets and their living forks. `poll` gets the descriptors to wait for, `tell` the events."""

    def __init__(self, poll: select.poll, tell: Tell) -> None:
        self._poll = poll
        self._tell = tell
        self._zygotes: dict[int, tuple[str, int, socket.socket]] = {}  # descriptor → (id, pid, control)
        self._controls: dict[str, int] = {}
        self._by_id: dict[str, _Fork] = {}
        self._by_pid: dict[int, _Fork] = {}
        self._by_pidfd: dict[int, _Fork] = {}
        self._asked: dict[int, set[str]] = {}
        self._unborn: dict[str, socket.socket] = {}  # the keeper's ends of sockets for zygotes that are being forked

    def add(self, identity: str, pid: int, control: socket.socket) -> None:
        """Take a zygote that was started: `control` is the keeper's end of its socket."""
        control.setblocking(False)
        fd = control.fileno()
        self._zygotes[fd] = (identity, pid, control)
        self._controls[identity] = fd
        self._asked[fd] = set()
        self._poll.register(fd, select.POLLIN)

    def ask(self, message: dict[str, Any], fds: list[int]) -> None:
        """Have the zygote `message["of"]` fork the process `message["id"]`, which gets `fds`.

        One that is to be a `zygote` itself gets, before the last of them, its end of a socket for that.
        """
        identity, fd = message["id"], self._controls.get(message["of"])
        theirs: socket.socket | None = None
        try:
            if fd is None:
                raise ProcessLookupError(0, "the zygote is gone")
            if message.get("zygote"):
                self._unborn[identity], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                fds = [*fds[:-1], theirs.fileno(), fds[-1]]
            _, _, control = self._zygotes[fd]
            socket.send_fds(control, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)
        except OSError as error:  # it is gone, or does not listen
            self._failed(identity, error.errno or 0, error.strerror or str(error))
        else:
            self._asked[fd].add(identity)
        finally:
            if theirs is not None:
                theirs.close()

    def serves(self, fd: int) -> bool:
        """Whether events of the descriptor are for `hear`."""
        return fd in self._zygotes or fd in self._by_pidfd

    def hear(self, fd: int) -> bool:
        """Take what happened at `fd`. Whether a process may have left others behind."""
        if (fork := self._by_pidfd.get(fd)) is not None:
            self._poll.unregister(fd)
            fork.ended_at = time.monotonic()
            return True
        try:
            packet = self._zygotes[fd][2].recv(PACKET_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            packet = b""
        if not packet:
            self._gone(fd)
            return False
        try:
            return self._heard(fd, json.loads(packet))
        except (ValueError, KeyError, TypeError):  # it is not what it was: code of the function's speaks in its place
            self._gone(fd)
            return False

    def knows(self, pid: int) -> bool:
        """Whether a child of the keeper is a fork whose zygote has ended."""
        return pid in self._by_pid

    def reaped(self, pid: int, status: int, max_rss_kib: int) -> None:
        """The keeper waited for a fork that had become its child."""
        killed = os.WIFSIGNALED(status)
        self._end(
            self._by_pid[pid],
            None if killed else os.WEXITSTATUS(status),
            os.WTERMSIG(status) if killed else None,
            max_rss_kib,
        )

    def signal(self, identity: str, number: int) -> bool:
        """Send a signal to a fork. False when there is none of that id."""
        fork = self._by_id.get(identity)
        if fork is None:
            return False
        try:
            signal.pidfd_send_signal(fork.pidfd, number)
        except ProcessLookupError:
            return True
        return True

    def patience_ms(self) -> int | None:
        """How long to wait before `expire` has to be called; None for ever."""
        ended = [fork.ended_at for fork in self._by_pid.values() if fork.ended_at is not None]
        return max(0, int(1000 * (min(ended) + TOLD_WITHIN_S - time.monotonic())) + 1) if ended else None

    def expire(self) -> None:
        """Tell the ends that nobody told in time."""
        late = time.monotonic() - TOLD_WITHIN_S
        for fork in [fork for fork in self._by_pid.values() if fork.ended_at is not None and fork.ended_at <= late]:
            self._end(fork, None, None, 0)

    def _heard(self, fd: int, message: dict[str, Any]) -> bool:
        identity = message["id"]
        if message["event"] == "ended":
            fork = self._by_id.get(identity)
            if fork is None or fork.control != fd:
                return False
            self._end(fork, message["status"], message["signal"], int(message["max_rss_kib"]))
            return True
        self._asked[fd].remove(identity)
        if message["event"] == "forked":
            self._forked(fd, identity, int(message["pid"]))
        else:
            self._failed(identity, int(message["errno"]), str(message["text"]))
        return False

    def _forked(self, fd: int, identity: str, pid: int) -> None:
        zygote = self._zygotes[fd][1]
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            self._failed(identity, error.errno or 0, "the fork has ended already")
            return
        if descent.parent(pid) not in (zygote, os.getpid()):
            os.close(pidfd)
            self._failed(identity, 0, f"process {pid} is not a fork of the zygote")
            return
        fork = _Fork(identity, pid, pidfd, fd)
        self._by_id[identity] = self._by_pid[pid] = self._by_pidfd[pidfd] = fork
        self._poll.register(pidfd, select.POLLIN)
        if control := self._unborn.pop(identity, None):
            self.add(identity, pid, control)
        self._tell(event="started", id=identity, pid=pid)

    def _failed(self, identity: str, number: int, text: str) -> None:
        if control := self._unborn.pop(identity, None):
            control.close()
        self._tell(event="failed", id=identity, step="fork", errno=number, text=text)

    def _end(self, fork: _Fork, status: int | None, number: int | None, max_rss_kib: int) -> None:
        del self._by_id[fork.identity], self._by_pid[fork.pid], self._by_pidfd[fork.pidfd]
        if fork.ended_at is None:
            self._poll.unregister(fork.pidfd)
        os.close(fork.pidfd)
        self._tell(event="exited", id=fork.identity, status=status, signal=number, max_rss_kib=max_rss_kib)

    def _gone(self, fd: int) -> None:
        """A zygote's socket has closed: what it was asked for is not made; what it made lives on."""
        identity, _, control = self._zygotes.pop(fd)
        del self._controls[identity]
        self._poll.unregister(fd)
        control.close()
        for fork in self._by_id.values():
            if fork.control == fd:
                fork.control = -1
        for asked in self._asked.pop(fd):
            self._failed(asked, 0, "the zygote ended")
