"""The platform's side of the keeper: starts it, asks it for processes, hears how they end.

When the keeper dies, its replicas become children of the platform (a child subreaper itself), which ends them, starts a
new keeper and reports every process as lost; the replicas' owners then start new ones as they do after any end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from orchestration.local import orphans
from orchestration.local.keeper import descent, linux
from orchestration.local.keeper.main import PACKET_BYTES

log = logging.getLogger("pinnace.keeper")

PACKAGES = Path(__file__).resolve().parents[2]
SPAWNED_WITHIN_S = 20.0
FORKED_WITHIN_S = 5.0
ENDED_WITHIN_S = 5.0
RESTART_PAUSE_S = 0.2
LONGEST_RESTART_PAUSE_S = 5.0


class SpawnFailed(Exception):
    """A process could not be made. `step` says where: cgroup, limits, mounts, files, user, folder, program, keeper …"""

    def __init__(self, step: str, errno: int, text: str) -> None:
        super().__init__(f"{step}: {text}")
        self.step = step
        self.errno = errno
        self.text = text


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: an exit `status`, or the `signal` that ended it. `lost`: the keeper died, nothing is known."""

    status: int | None = None
    signal: int | None = None
    max_rss_kib: int = 0
    lost: bool = False

    def __str__(self) -> str:
        if self.lost:
            return "ended together with the keeper"
        if self.signal is not None:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(self.signal).name}"
            return f"killed by signal {self.signal}"
        if self.status is None:
            return "ended; with which status is not known"
        return f"exited with status {self.status}"


class SecretFiles(msgspec.Struct, frozen=True):
    """Files to be made in memory at `folder`; values are base64 in JSON."""

    folder: str
    files: dict[str, bytes]


class Mounts(msgspec.Struct, frozen=True):
    """What a mount namespace changes: `covers` are emptied folders, `binds` are (source, target, read only)."""

    covers: tuple[str, ...] = ()
    binds: tuple[tuple[str, str, bool], ...] = ()
    secrets: SecretFiles | None = None
    read_only_root: bool = False


class SpawnPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the process shall be. `rlimits` are (resource, soft, hard); `cgroups` are folders to attach to.

    A `zygote` makes others by `KeeperLink.fork`: it has the socket that the keeper asks it by where a replica listens.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    cgroups: tuple[str, ...] = ()
    rlimits: tuple[tuple[int, int, int], ...] = ()
    mounts: Mounts | None = None
    uid: int | None = None
    gid: int | None = None
    zygote: bool = False


class KeptProcess:
    """A process below the keeper. `exited` is done when it has ended."""

    def __init__(self, identity: str, pid: int, exited: asyncio.Future[Exit], signaller: Callable[[str, int], None]) -> None:
        self.identity = identity
        self.pid = pid
        self.exited = exited
        self._signaller = signaller

    def signal(self, number: int) -> None:
        """Send a signal; one that has ended is left alone."""
        if not self.exited.done():
            self._signaller(self.identity, number)


class KeeperLink:
    """Owns the keeper process. Leaving the context ends it, and it ends everything below it."""

    def __init__(self, marker: str) -> None:
        self._marker = marker.encode()  # `NAME=VALUE` in the environment of every replica
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._started: dict[str, asyncio.Future[int]] = {}
        self._exits: dict[str, asyncio.Future[Exit]] = {}
        self._pids: dict[str, int] = {}
        self._restart: asyncio.Task[None] | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._there = asyncio.Event()
        self._outbox: list[tuple[bytes, tuple[int, ...]]] = []
        self._was_subreaper = False

    @property
    def pid(self) -> int | None:
        """The keeper's pid while it runs."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        self._was_subreaper = linux.is_child_subreaper()
        linux.set_child_subreaper(True)
        await asyncio.to_thread(self.sweep)
        self._start()
        self._reaping = asyncio.create_task(orphans.reap())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in filter(None, (self._restart, self._reaping)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._disconnect()
        if self._process is not None:
            await asyncio.to_thread(self._wait, self._process)
            self._process = None
            await asyncio.to_thread(self.sweep)  # a keeper that was killed just now ended nothing
        _all_lost(self._exits.values())
        linux.set_child_subreaper(self._was_subreaper)

    async def spawn(self, identity: str, plan: SpawnPlan, fds: Sequence[int]) -> KeptProcess:
        """Make a process; `fds` are its stdout, stderr[, listening socket, notify pipe]. Raises SpawnFailed."""
        with _memory_file(msgspec.json.encode(plan)) as fd:
            return await self._make({"do": "spawn", "id": identity}, (fd, *fds), SPAWNED_WITHIN_S)

    async def fork(
        self, identity: str, zygote: str, fds: Sequence[int], *, room: str, temporary: str, hostname: str
    ) -> KeptProcess:
        """Have the process `zygote` fork; `fds` are the fork's stdout, stderr, listening socket, notify pipe.

        `room` is the folder that becomes its /tmp, as the zygote sees it; without one, `temporary` takes the place of
        the zygote's own folder for files. `hostname` becomes its HOSTNAME; empty: it has the zygote's. Raises SpawnFailed.
        """
        message = {"do": "fork", "id": identity, "of": zygote, "room": room, "temporary": temporary, "hostname": hostname}
        return await self._make(message, tuple(fds), FORKED_WITHIN_S)

    async def fork_planned(self, identity: str, stem: str, plan: SpawnPlan, fds: Sequence[int]) -> KeptProcess:
        """Have the process `stem` fork one that becomes what the plan says; `fds` are as in `spawn`. Raises SpawnFailed."""
        message = {"do": "fork", "id": identity, "of": stem, "zygote": plan.zygote}
        with _memory_file(msgspec.json.encode(plan)) as fd:
            return await self._make(message, (fd, *fds), FORKED_WITHIN_S)

    async def _make(self, message: dict[str, Any], fds: tuple[int, ...], within_s: float) -> KeptProcess:
        identity = message["id"]
        try:
            async with asyncio.timeout(within_s):
                await self._there.wait()
                started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
                self._started[identity], self._exits[identity] = started, exited
                self._send(message, fds)
                try:
                    pid = await asyncio.shield(started)
                except asyncio.CancelledError:
                    started.add_done_callback(lambda done: self._discard(identity, done))
                    raise
        except TimeoutError:
            raise SpawnFailed("keeper", 0, f"no answer within {within_s:.0f} s") from None
        return KeptProcess(identity, pid, exited, self._signal)

    def sweep(self) -> set[int]:
        """Kill what an earlier platform of this data folder left, with all its descent. Returns the pids. Blocks."""
        found = set()
        for pid in descent.processes():
            if pid != os.getpid():
                with contextlib.suppress(OSError):
                    environment = Path(f"/proc/{pid}/environ").read_bytes()
                    if self._marker in environment.split(b"\0"):
                        found.add(pid)
        return self._kill(found) if found else set()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = "import sys; sys.path.append(sys.argv.pop()); from orchestration.local.keeper.main import main; main()"
        with contextlib.ExitStack() as unused:
            unused.enter_context(ours)
            unused.enter_context(theirs)
            ours.setblocking(False)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program, str(theirs.fileno()), str(os.getpid()), str(PACKAGES)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            )
            unused.pop_all()
            theirs.close()
        self._link = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive)
        self._there.set()

    def _send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        if self._link is None:
            return
        try:
            socket.send_fds(self._link, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            # The keeper is slower than we are; the files must outlive the caller's copies.
            self._outbox.append((json.dumps(message).encode(), tuple(os.dup(fd) for fd in fds)))
            asyncio.get_running_loop().add_writer(self._link.fileno(), self._flush)
        except OSError:
            self._lost()

    def _flush(self) -> None:
        while self._link is not None and self._outbox:
            packet, fds = self._outbox[0]
            try:
                socket.send_fds(self._link, [packet], fds, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            del self._outbox[0]
            for fd in fds:
                os.close(fd)
        if self._link is not None:
            asyncio.get_running_loop().remove_writer(self._link.fileno())

    def _signal(self, identity: str, number: int) -> None:
        self._send({"do": "signal", "id": identity, "signal": int(number)})

    def _receive(self) -> None:
        while self._link is not None:
            try:
                packet = self._link.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lost()
                return
            self._hear(json.loads(packet))

    def _hear(self, message: dict[str, Any]) -> None:
        identity = message["id"]
        if message["event"] == "started":
            self._pids[identity] = message["pid"]
            if started := self._started.pop(identity, None):
                started.set_result(message["pid"])
        elif message["event"] == "failed":
            self._exits.pop(identity, None)
            if started := self._started.pop(identity, None):
                started.set_exception(SpawnFailed(message["step"], message["errno"], message["text"]))
        else:
            self._pids.pop(identity, None)
            exited = self._exits.pop(identity, None)
            if exited is not None and not exited.done():
                exited.set_result(Exit(message["status"], message["signal"], message["max_rss_kib"]))

    def _discard(self, identity: str, started: asyncio.Future[int]) -> None:
        if not started.cancelled() and started.exception() is None:
            self._signal(identity, signal.SIGKILL)

    def _disconnect(self) -> None:
        self._there.clear()
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            asyncio.get_running_loop().remove_writer(self._link.fileno())
            self._link.close()
            self._link = None
        for _, fds in self._outbox:
            for fd in fds:
                os.close(fd)
        self._outbox.clear()

    def _lost(self) -> None:
        if self._restart is None or self._restart.done():
            self._disconnect()
            log.error("the keeper ended: its replicas are ended and started again")
            self._restart = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        process = self._process
        pids = set(self._pids.values())
        self._pids.clear()
        if process is not None:
            await _apart(self._wait, process)
        await _apart(self._kill, pids)
        await _apart(self.sweep)
        started, self._started = self._started, {}
        exits, self._exits = self._exits, {}
        for starting in started.values():
            if not starting.done():
                starting.set_exception(SpawnFailed("keeper", 0, "the keeper ended"))
        _all_lost(exits.values())
        pause_s = RESTART_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RESTART_PAUSE_S)
            try:
                self._start()
            except OSError as error:  # no processes or descriptors are to be had just now
                log.error("the keeper cannot be started, again in %g s: %s", pause_s, error)
            else:
                return

    @staticmethod
    def _wait(process: subprocess.Popen[bytes]) -> None:
        """Wait for the keeper, which ends as soon as all below it has; one that hangs is killed."""
        try:
            process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @staticmethod
    def _kill(roots: set[int]) -> set[int]:
        """End `roots` with all that descends from them, and reap those that have become our children."""
        ended = descent.end(roots)
        for pid in ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        return ended


async def _apart(work: Callable[..., object], *arguments: object) -> None:
    """Do blocking work in a thread, or here where no thread is to be had: that may be why the keeper ended."""
    try:
        await asyncio.to_thread(work, *arguments)
    except RuntimeError:
        work(*arguments)


def _all_lost(exits: Iterable[asyncio.Future[Exit]]) -> None:
    for exited in exits:
        if not exited.done():
            exited.set_result(Exit(lost=True))


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """An anonymous file in memory with `content`: what is too big for a packet."""
    fd = os.memfd_create("plan", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        yield fd
    finally:
        os.close(fd)
