"""The keeper's loop: it starts replicas for the platform, tells how they end, and ends them all when the platform is gone.

The platform talks to it over one SOCK_SEQPACKET socket, a JSON object a packet:

    → {"do": "spawn", "id": ID}  with files: the plan (a memfd with JSON), stdout, stderr[, listen socket, notify pipe]
    → {"do": "fork", "id": ID, "of": ZYGOTE, …}  with files: stdout, stderr, listen socket, notify pipe; see `forks`
    → {"do": "signal", "id": ID, "signal": N}
    ← {"event": "started", "id": ID, "pid": PID}
    ← {"event": "failed", "id": ID, "step": STEP, "errno": N, "text": TEXT}
    ← {"event": "exited", "id": ID, "status": N | null, "signal": N | null, "max_rss_kib": N}

A plan that says `zygote` is of a process that forks others: in the place of the listening socket it gets one end of a
socket pair, over which the keeper asks it.

Each replica is a child subreaper: what it daemonises stays below it while it lives, and becomes a child of the keeper
when it ends. So a child that the keeper did not start is what an ended replica left behind, and is killed with all below.

The socket is also the lifeline. When it closes, or the platform's process ends while a fork still holds the socket,
every descendant is killed and the cgroups they were in are removed.
"""

# The keeper does without pathlib: it stays small.
# ruff: noqa: PTH106, PTH120
from __future__ import annotations

import collections
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from orchestration.local.keeper import child, descent, linux
from orchestration.local.keeper.forks import Forks

PACKET_BYTES = 1 << 16
FILES_AT_MOST = 5
LAST_EFFORT_S = 10.0


class Keeper:
    """`link` is the socket to the platform, whose pid is `platform`."""

    def __init__(self, link: socket.socket, platform: int) -> None:
        self._link = link
        self._platform = os.pidfd_open(platform)
        self._replicas: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._cgroup_bases: set[str] = set()
        self._starting: dict[int, tuple[str, int]] = {}
        self._outbox: collections.deque[bytes] = collections.deque()
        self._woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._forks = Forks(self._poll, self._tell)
        for fd in (link.fileno(), self._platform, self._woken):
            self._poll.register(fd, select.POLLIN)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Serve until the platform is gone, then end everything."""
        try:
            while self._turn():
                pass
        finally:
            self._end_all()

    def _turn(self) -> bool:
        self._poll.modify(self._link.fileno(), select.POLLIN | (select.POLLOUT if self._outbox else 0))
        woken = False
        for fd, events in self._poll.poll(self._forks.patience_ms()):
            if fd == self._platform:
                return False
            if fd == self._woken:
                os.read(self._woken, 4096)
                woken = True
            elif fd == self._link.fileno():
                if events & select.POLLIN:
                    if not self._receive():
                        return False
                elif events & (select.POLLHUP | select.POLLERR):
                    return False
            elif self._forks.serves(fd):
                woken |= self._forks.hear(fd)
            elif fd in self._starting:
                self._started(fd)
        self._forks.expire()
        if woken:  # last, because it closes pipes that other events of this turn may be about
            self._reap()
        return self._flush()

    def _receive(self) -> bool:
        try:
            packet, fds, flags, _ = socket.recv_fds(self._link, PACKET_BYTES, FILES_AT_MOST, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return True
        except OSError:
            return False
        try:
            if not packet:
                return False
            message = json.loads(packet)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self._tell(event="failed", id=message["id"], step="message", errno=0, text="the message was cut")
            elif message["do"] == "spawn":
                self._spawn(message["id"], fds)
            elif message["do"] == "fork":
                self._forks.ask(message, fds)
            elif not self._forks.signal(message["id"], message["signal"]) and message["id"] in self._replicas:
                descent.send(self._replicas[message["id"]], message["signal"])
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _spawn(self, identity: str, fds: list[int]) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        ours: socket.socket | None = None
        theirs: socket.socket | None = None
        try:
            plan = json.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
            if plan["zygote"]:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                fds = [*fds[:3], theirs.fileno(), *fds[3:]]
            pid = os.fork()
        except (OSError, ValueError) as error:
            os.close(reading)
            os.close(writing)
            for end in filter(None, (ours, theirs)):
                end.close()
            number = error.errno or 0 if isinstance(error, OSError) else 0
            self._tell(event="failed", id=identity, step="fork", errno=number, text=str(error))
            return
        if pid == 0:
            child.become(plan, fds[1:], writing)
        os.close(writing)
        if ours is not None and theirs is not None:
            theirs.close()
            self._forks.add(identity, pid, ours)
        self._replicas[identity], self._ids[pid] = pid, identity
        self._cgroup_bases.update(os.path.dirname(folder) for folder in plan["cgroups"])
        self._starting[reading] = (identity, pid)
        self._poll.register(reading, select.POLLIN)

    def _started(self, fd: int) -> None:
        identity, pid = self._starting.pop(fd)
        self._poll.unregister(fd)
        report = os.read(fd, 4096).decode(errors="replace")
        os.close(fd)
        if not report:
            self._tell(event="started", id=identity, pid=pid)
            return
        step, number, text = report.split("\n", 2)
        self._ids[pid] = ""  # its end is no news
        del self._replicas[identity]
        self._tell(event="failed", id=identity, step=step, errno=int(number), text=text)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if self._forks.knows(pid):
                self._forks.reaped(pid, status, usage.ru_maxrss)
                continue
            identity = self._ids.get(pid)
            for fd in [fd for fd, (_, started) in self._starting.items() if started == pid]:
                self._started(fd)  # the exec, or why there was none, is told before the end
                identity = self._ids.get(pid)
            self._ids.pop(pid, None)
            if not identity:
                continue
            del self._replicas[identity]
            killed = os.WIFSIGNALED(status)
            self._tell(
                event="exited",
                id=identity,
                status=None if killed else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if killed else None,
                max_rss_kib=usage.ru_maxrss,
            )
        left = [pid for pid in descent.children(os.getpid()) if pid not in self._ids and not self._forks.knows(pid)]
        if left:
            descent.end(left)

    def _tell(self, **message: Any) -> None:
        self._outbox.append(json.dumps(message).encode())

    def _flush(self) -> bool:
        while self._outbox:
            try:
                self._link.send(self._outbox[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._outbox.popleft()
        return True

    def _end_all(self) -> None:
        deadline = time.monotonic() + LAST_EFFORT_S
        while time.monotonic() < deadline:
            descent.end(descent.children(os.getpid()))
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.005)
        for base in self._cgroup_bases:
            try:
                for folder in [entry.path for entry in os.scandir(base) if entry.is_dir()]:
                    os.rmdir(folder)
                os.rmdir(base)
            except OSError:
                continue  # gone, or not empty: the next start of the platform sweeps it


def main() -> None:
    """Run the keeper; the arguments are the number of the socket's file descriptor and the platform's pid."""
    os.setsid()
    linux.set_child_subreaper(True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    link.setblocking(False)
    os.chdir("/")
    Keeper(link, int(sys.argv[2])).run()
