"""What was learnt of each function's idle times, kept over restarts in one small file.

The file is read at the start and written when something changed: once a minute at most, and at the end. Both happen in a
thread, and writing goes by way of a second file, so that a crash leaves the old one or the new one. Losing the file costs what
was learnt and nothing else: what cannot be read is said once and replaced, a full disk is said once and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from autoscaler.keep_alive import KeepAlive
from orchestration.names import FunctionId

log = logging.getLogger("pinnace.autoscaler")

EVERY_S: Final = 60.0
MOST_FUNCTIONS: Final = 10_000
"""In the file, 11 MB at most; those whose idle times changed last are kept."""
LARGEST_BYTES: Final = 32 << 20
LAST_WRITE_S: Final = 10.0
AT_A_TIME: Final = 100
"""Functions written down in one turn of the loop: about half a millisecond."""

_KIND: Final = "pinnace idle times"
_VERSION: Final = 1


class _Row(msgspec.Struct, array_like=True):
    namespace: str
    name: str
    changed_at: int  # Unix seconds
    learnt: bytes


class _Document(msgspec.Struct, array_like=True):
    kind: str
    version: int
    rows: list[_Row]


class _Entry:
    """One function: as it was read until somebody asks for it, from then on alive."""

    __slots__ = ("changed_at", "count", "keep_alive", "learnt")

    def __init__(self, learnt: bytes = b"", changed_at: int = 0) -> None:
        self.learnt = learnt
        self.changed_at = changed_at
        self.keep_alive: KeepAlive | None = None
        self.count = 0


class History:
    """Owns the file at `path` and what was learnt of every function. Entering reads it, leaving writes it a last time.

    `wall` gives Unix seconds. No error leaves it: without its file the platform learns from nothing.
    """

    def __init__(self, path: Path, *, every_s: float = EVERY_S, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._every_s = every_s
        self._wall = wall
        self._entries: dict[FunctionId, _Entry] = {}
        self._changed = False
        self._failing = False
        self._ending = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for row in await asyncio.to_thread(_read, self._path):
            self._entries[FunctionId(row.namespace, row.name)] = _Entry(row.learnt, row.changed_at)
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._keeping is not None:
            done, _ = await asyncio.wait([self._keeping], timeout=LAST_WRITE_S)
            if not done:
                log.warning("%s is not written after %.0f s: the last idle times are lost", self._path, LAST_WRITE_S)
                self._keeping.cancel()

    def keep_alive(self, function: FunctionId) -> KeepAlive:
        """Return what is learnt of `function`: always the same object, which whoever decides tells of idle times."""
        entry = self._entries.setdefault(function, _Entry())
        if entry.keep_alive is None:
            entry.keep_alive = KeepAlive.load(entry.learnt) if entry.learnt else KeepAlive()
            entry.count, entry.learnt = entry.keep_alive.count, b""
        return entry.keep_alive

    def forget(self, function: FunctionId) -> None:
        """Drop what was learnt of `function`, which is gone."""
        if self._entries.pop(function, None) is not None:
            self._changed = True

    async def save(self) -> None:
        """Write the file if something changed since it was written."""
        now = int(self._wall())
        for entry in self._entries.values():
            if entry.keep_alive is not None and entry.keep_alive.count != entry.count:
                entry.count, entry.changed_at, self._changed = entry.keep_alive.count, now, True
        if not self._changed:
            return
        self._changed = False
        rows = await self._rows()
        try:
            await asyncio.to_thread(_write, self._path, rows)
        except OSError as error:
            self._changed = True
            if not self._failing:
                log.warning("learnt idle times cannot be written to %s (tried again): %s", self._path, error.strerror or error)
            self._failing = True
        else:
            self._failing = False

    async def _rows(self) -> list[msgspec.Raw]:
        """Return the encoded rows, made in small steps: 10,000 functions are 30 ms of work on the loop."""
        self._drop_oldest()
        rows, encode = [], msgspec.msgpack.encode
        for i, (function, entry) in enumerate(list(self._entries.items()), 1):
            alive = entry.keep_alive
            if alive is None or alive.count:
                learnt = entry.learnt if alive is None else alive.dump()
                rows.append(msgspec.Raw(encode(_Row(*function, entry.changed_at, learnt))))
            if i % AT_A_TIME == 0:
                await asyncio.sleep(0)
        return rows[:MOST_FUNCTIONS]

    def _drop_oldest(self) -> None:
        """Put those last that changed longest ago, and drop them if they are too many and nobody asked for them."""
        if len(self._entries) > MOST_FUNCTIONS:
            newest = sorted(self._entries.items(), key=lambda item: item[1].changed_at, reverse=True)
            dropped = [function for function, entry in newest[MOST_FUNCTIONS:] if entry.keep_alive is None]
            self._entries = dict(newest)
            for function in dropped:
                del self._entries[function]

    async def _keep(self) -> None:
        ending = False
        while not ending:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._every_s)
            ending = self._ending.is_set()
            await self.save()


def _read(path: Path) -> list[_Row]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise ValueError(f"it is larger than {LARGEST_BYTES} bytes")
        document = msgspec.msgpack.decode(content, type=_Document)
        if (document.kind, document.version) != (_KIND, _VERSION):
            raise ValueError(f"it holds {document.kind[:40]!r}, version {document.version}")
    except FileNotFoundError:
        pass  # nothing was learnt yet
    except OSError as error:
        log.warning("learnt idle times cannot be read from %s, starting with none: %s", path, error.strerror or error)
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("%s does not hold learnt idle times, starting with none: %s", path, error)
    else:
        return document.rows
    return []


def _write(path: Path, rows: list[msgspec.Raw]) -> None:
    """Replace the file. Raises OSError; then it is as it was."""
    partial = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode((_KIND, _VERSION, rows)))  # a _Document
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
