"""One zygote: started once for a revision, asked for a fork whenever a replica is to start.

The kernel lets a process be born in the cgroup of its parent for nothing, while attaching it afterwards takes 8-16 ms. So
the zygote walks ahead: after each fork it is moved into the room of the next one (`rooms`). Forks therefore take turns; a
move right after another takes 0.1 ms.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import Any

from orchestration.local.cgroups import CgroupFailed
from orchestration.local.launch import Launched, LaunchedZygote, Launcher, LaunchFailed
from orchestration.local.memory_budget import proportional_bytes
from orchestration.local.readiness import NotifyPipe
from orchestration.local.rooms import Room, Rooms
from orchestration.revision import Revision
from orchestration.rollout import READY_WITHIN_S

log = logging.getLogger("pinnace.zygote")

ENDED_WITHIN_S = 5.0
ROOMS_SPARED_S = 10.0
"""How long after the last start rooms are kept for more of them."""


class Unfit(Exception):
    """The revision's replicas cannot be forks; the message says why in one line."""


class ZygoteEnded(Exception):
    """The zygote ended before it could fork; the message says how."""


class Zygote:
    """Owns one zygote process with the rooms of its forks.

    Once it is ready, `import_s` is what its start took and `memory_bytes` its share of memory then. `weighed` is its owner's.
    """

    def __init__(self, name: str, revision: Revision, launcher: Launcher) -> None:
        self.name = name
        self.revision = revision
        self.import_s = 0.0
        self.memory_bytes = 0
        self.weighed = False
        self.ending = False
        self._launcher = launcher
        self._launched: LaunchedZygote | None = None
        self._room: Room | None = None
        self._tidies: asyncio.TimerHandle | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._lived_in: set[int] = set()
        self._left: list[Room] = []
        self._leaving: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._opening = asyncio.create_task(self._open(), name=f"zygote {name}")
        self._opening.add_done_callback(_heard)
        self._moving: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._launched.process.pid if self._launched and not self._launched.process.exited.done() else None

    @property
    def ready(self) -> bool:
        """Whether it can fork now."""
        return self.pid is not None and self._opening.done() and not self.ending

    async def opened(self) -> None:
        """Return when it can fork. Raises Unfit, ZygoteEnded, LaunchFailed (the handler cannot be imported)."""
        await asyncio.shield(self._opening)

    async def fork(self, replica: str) -> Launched:
        """Fork a process for the replica of that id. Raises what `opened` does."""
        await self.opened()
        await self._turn.acquire()
        if not self.ready or self._launched is None or self._room is None:
            self._turn.release()
            raise ZygoteEnded(self._how_it_ended())
        room = self._room
        try:
            launched = await self._launcher.fork(self._launched, room, self.revision, replica)
        except BaseException:  # it may have been born all the same
            self._moving = asyncio.create_task(self._move_on(left_alone=room), name=f"zygote {self.name} moves on")
            raise
        self._lived_in.add(room.number)
        self._moving = asyncio.create_task(self._move_on(), name=f"zygote {self.name} moves on")
        return launched

    def _how_it_ended(self) -> str:
        exited = self._launched.process.exited if self._launched else None
        return str(exited.result()) if exited is not None and exited.done() else "it does not answer"

    async def left(self, room: Room) -> None:
        """A fork has ended: its room is the next one's, or is taken away. Those that end together are left together."""
        self._left.append(room)
        while room.number in self._lived_in:
            if self._leaving is None or self._leaving.done():
                self._leaving = asyncio.create_task(self._leave(), name=f"zygote {self.name} leaves rooms")
            await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        while self._left:
            async with self._turn:  # the zygote itself may still be in a cgroup of theirs
                left, self._left = self._left, []
            if self._launched is not None:
                await asyncio.to_thread(_vacate, self._launched.rooms, left, spare=not self.ending)
            self._lived_in.difference_update(room.number for room in left)
        self._tidy_later()
        await self._clean()

    def _tidy_later(self) -> None:
        if self._tidies is not None:
            self._tidies.cancel()
        self._tidies = asyncio.get_running_loop().call_later(ROOMS_SPARED_S, self._tidy) if not self.ending else None

    def _tidy(self) -> None:
        if self._launched is not None and self._launched.rooms.spare:
            self._tidying = asyncio.create_task(asyncio.to_thread(self._launched.rooms.tidy), name=f"zygote {self.name} tidies")

    async def close(self) -> None:
        """End it; its forks live on."""
        self.ending = True
        if not self._opening.done():
            self._opening.cancel()
        await asyncio.gather(self._opening, return_exceptions=True)
        async with self._turn:
            if self._launched is not None:
                self._launched.process.signal(signal.SIGKILL)
                await asyncio.wait([self._launched.process.exited], timeout=ENDED_WITHIN_S)
                if self._tidies is not None:
                    self._tidies.cancel()
                await asyncio.gather(*filter(None, [self._tidying]), return_exceptions=True)
                if self._room is not None:
                    await asyncio.to_thread(self._launched.rooms.remove, self._room)
                    self._room = None
                await asyncio.to_thread(self._launched.rooms.tidy)
        await self._clean()

    async def _clean(self) -> None:
        """Take away what it shared with its forks, its secrets for one, when none of them is left."""
        if self.ending and not self._lived_in and not self._gone.is_set():
            self._gone.set()
            await self._launcher.gone(self.name)

    async def _open(self) -> None:
        began = time.monotonic()
        self._launched = launched = await self._launcher.start_zygote(self.revision, self.name)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._become_ready(launched)
                await self._enter_room(launched)
        except TimeoutError:
            launched.process.signal(signal.SIGKILL)
            raise LaunchFailed(f"not ready within {READY_WITHIN_S:.0f} s: its import has not ended") from None
        except (OSError, CgroupFailed) as error:
            launched.process.signal(signal.SIGKILL)
            raise LaunchFailed(f"cannot start: {error}") from None
        except BaseException:
            launched.process.signal(signal.SIGKILL)
            raise
        finally:
            os.close(launched.notify)
        self.import_s = time.monotonic() - began
        self.memory_bytes = await asyncio.to_thread(proportional_bytes, launched.process.pid)

    async def _become_ready(self, launched: LaunchedZygote) -> None:
        exited = launched.process.exited
        with NotifyPipe(launched.notify) as pipe:
            ends: list[asyncio.Future[Any]] = [pipe.said, exited]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            pipe.read()
            said = pipe.said.result() if pipe.said.done() else None
        if said is not None and said.unfit:
            raise Unfit(said.unfit)
        if said is not None and said.failed:
            raise LaunchFailed(said.failed)
        if said is None or exited.done():
            await asyncio.wait([exited], timeout=ENDED_WITHIN_S)
            raise ZygoteEnded(self._how_it_ended())

    async def _move_on(self, left_alone: Room | None = None) -> None:
        """Go where the next fork is to be born; `left_alone` is a room in which nobody may stay. Ends this one's turn."""
        try:
            if self._launched is not None:
                await self._enter_room(self._launched)
                if left_alone is not None:
                    await asyncio.to_thread(self._launched.rooms.remove, left_alone)
        except (OSError, CgroupFailed) as error:  # it stands where its last fork is: no other may be born there
            self._room = None
            self.ending = True
            if self._launched is not None:
                self._launched.process.signal(signal.SIGKILL)
            log.warning("%s: ended, its next fork has no place: %s", self.name, error)
        finally:
            self._turn.release()

    async def _enter_room(self, launched: LaunchedZygote) -> None:
        self._room = await asyncio.to_thread(_enter, launched.rooms, launched.process.pid)


def _enter(rooms: Rooms, pid: int) -> Room:
    """Move the process into a room. Blocks. Raises OSError, CgroupFailed."""
    room = rooms.take()
    try:
        if room.cgroup is not None:
            room.cgroup.enter(pid)
    except BaseException:
        rooms.remove(room)
        raise
    return room


def _vacate(rooms: Rooms, left: list[Room], *, spare: bool) -> None:
    for room in left:
        (rooms.leave if spare else rooms.remove)(room)


def _heard(opening: asyncio.Task[None]) -> None:
    """Nobody may be waiting when it fails: whoever asks next hears of it."""
    if not opening.cancelled():
        opening.exception()
