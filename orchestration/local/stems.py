"""Stems: for each dependency set of a namespace, a process from which zygotes and replicas are forked: no exec, no start-up.

A stem (`keeper.stem`) holds nothing of any function's, so all functions of a namespace with the same dependencies and
runtime share one. It is started when it is first missed, in the background: who misses it does without. It takes its part of
the memory that is there for what waits to be forked; one without room is not started again for a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable

import msgspec

from orchestration.local.keeper_link import PACKAGES, KeeperLink, KeptProcess, SpawnFailed, SpawnPlan
from orchestration.local.memory_budget import MemoryBudget, proportional_bytes
from orchestration.local.readiness import NotifyPipe

log = logging.getLogger("pinnace.stems")

READY_WITHIN_S = 10.0
AT_MOST = 32
NO_ROOM_FOR_S = 60.0
# The dynamic loader, libc and the interpreter read these when they start, which a fork does not do again.
READ_AT_START = ("LD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "PYTHON")
_PROGRAM = "import sys; sys.path.append(sys.argv[-1]); from orchestration.local.keeper.stem import main; main()"


class StemKey(msgspec.Struct, frozen=True):
    """What makes one stem as good as another: namespace, path of the interpreter, folder of the runtime, and whether it has
    imported what an event loop needs."""

    namespace: str
    python: str
    runtime: str
    loop: bool


def can_share(variables: Iterable[str]) -> bool:
    """Whether a process with these variables of the function's own can be a fork of a stem."""
    return not any(name.startswith(READ_AT_START) for name in variables)


class Stems:
    """Owns all stems. `marker` is the variable, and its value, that every process of this platform has; `budget` bounds their
    memory, together with the zygotes'."""

    def __init__(self, keeper: KeeperLink, marker: tuple[str, str], budget: MemoryBudget, at_most: int = AT_MOST) -> None:
        self._keeper = keeper
        self._marker = marker
        self._budget = budget
        self._at_most = at_most
        self._ready: dict[StemKey, KeptProcess] = {}  # the one used longest ago comes first
        self._starting: dict[StemKey, asyncio.Task[None]] = {}
        self._no_room_until: dict[StemKey, float] = {}

    def get(self, key: StemKey) -> KeptProcess | None:
        """Return the stem, or None while there is none: then it is being started."""
        stem = self._ready.pop(key, None)
        if stem is not None and not stem.exited.done():
            self._ready[key] = stem
            self._budget.use(key)
            return stem
        if key not in self._starting and not self._lacks_room(key):
            task = self._starting[key] = asyncio.create_task(self._start(key), name=f"stem {key.python}")
            task.add_done_callback(lambda _: self._starting.pop(key))
        return None

    def drop(self, key: StemKey) -> None:
        """End the stem: it does not do what it should, or has no room."""
        if stem := self._ready.pop(key, None):
            self._budget.forget(key)
            stem.signal(signal.SIGKILL)

    def pids(self) -> list[int]:
        return [stem.pid for stem in self._ready.values() if not stem.exited.done()]

    async def started(self) -> None:
        """Return when no stem is being started."""
        await asyncio.gather(*self._starting.values(), return_exceptions=True)

    async def close(self) -> None:
        """End all."""
        for task in list(self._starting.values()):
            task.cancel()
        await self.started()
        for key in list(self._ready):
            self.drop(key)

    def _ended(self, key: StemKey, stem: KeptProcess) -> None:
        if self._ready.get(key) is stem:
            self.drop(key)

    def _lacks_room(self, key: StemKey) -> bool:
        """Whether there was no room for it lately."""
        now = time.monotonic()
        self._no_room_until = {other: until for other, until in self._no_room_until.items() if until > now}
        return key in self._no_room_until

    async def _start(self, key: StemKey) -> None:
        began = time.monotonic()
        name, value = self._marker
        plan = SpawnPlan(
            argv=(key.python, "-I", "-S", "-c", _PROGRAM, key.runtime, "loop" if key.loop else "threads", str(PACKAGES)),
            env={"PATH": os.defpath, "LANG": "C.UTF-8", name: value},
            cwd="/",
            zygote=True,
        )
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        stem: KeptProcess | None = None
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                stem = await self._keeper.spawn(f"stem-{os.urandom(4).hex()}", plan, (null, null, writing))
                os.close(writing)
                writing = -1
                with NotifyPipe(reading) as pipe:
                    said = await pipe.said
            if said is None or not said.ready:
                raise SpawnFailed(
                    "stem", 0, str(stem.exited.result()) if stem.exited.done() else "it does not say that it is ready"
                )
            if self._budget.most_bytes:
                size = await asyncio.to_thread(proportional_bytes, stem.pid)
                cost_s = time.monotonic() - began
                if not self._budget.keep(key, cost_s=cost_s, size_bytes=size, drop=lambda: self.drop(key)):
                    self._no_room_until[key] = time.monotonic() + NO_ROOM_FOR_S
                    return  # it ends
            self._ready[key] = stem
            stem.exited.add_done_callback(lambda _: self._ended(key, stem))
            while len(self._ready) > self._at_most:
                self.drop(next(iter(self._ready)))
        except (SpawnFailed, TimeoutError, OSError) as error:
            log.warning("%s: no stem, processes are started without: %s", key.python, error)
        finally:
            os.close(null)
            os.close(reading)
            if writing >= 0:
                os.close(writing)
            if stem is not None and self._ready.get(key) is not stem:
                stem.signal(signal.SIGKILL)
