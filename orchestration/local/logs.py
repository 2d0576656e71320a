"""The output of all replicas: one thread owns every pipe, takes lines apart, and writes them to the functions' files.

A replica that writes faster than the thread reads is slowed down by its own full pipe: the thread works at most a quarter of
the time, so that the loops that serve calls keep the rest. A disk that takes nothing more costs log lines, never a call.
The platform's own lines about a replica, and the end of what a removed function wrote, wait for the same thread, in order.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import selectors
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from orchestration.local.log_files import Entry, LogReader, LogWriter, segments
from orchestration.local.log_lines import Lines
from orchestration.names import FunctionId, check_function_name, check_namespace
from orchestration.orchestrator import LogLine, LogQuery, NotFound

log = logging.getLogger("pinnace.logs")

PIPE_READ_BYTES = 64 << 10
REST_FACTOR = 3.0
BUSY_S = 0.001
WRITERS_OPEN = 64
FOLLOW_PAUSE_S = 0.05
QUOTA_BYTES = 1 << 30
QUOTA_EVERY_BYTES = 4 << 20
KEEP_S = 7 * 86400.0
AGE_EVERY_S = 600.0


class _Source:
    """One pipe of one replica."""

    def __init__(self, function: FunctionId, instance: str) -> None:
        self.function = function
        self.instance = instance
        self.lines = Lines()
        self.unwanted = False
        """Its function was removed, and another one has the name."""


class _Attached(NamedTuple):
    """A pipe to be read."""

    fd: int
    source: _Source


class _Said(NamedTuple):
    """A line of the platform's own."""

    function: FunctionId
    entry: Entry


class _Cleared(NamedTuple):
    """What was written under the name goes; without a `name`, in the namespace."""

    namespace: str
    name: str


class Logs:
    """Owns the pipes, the files and the thread. Leaving the context reads what is still in the pipes and ends it.

    Files that nobody wrote to for `keep_s` go, looked for every `age_every_s`; `clock` gives Unix seconds.
    """

    def __init__(
        self,
        folder: Path,
        quota_bytes: int = QUOTA_BYTES,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.time,
        age_every_s: float = AGE_EVERY_S,
    ) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._keep_s = keep_s
        self._clock = clock
        self._age_every_s = age_every_s
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._arrivals: collections.deque[_Attached | _Said | _Cleared] = collections.deque()
        self._writers: collections.OrderedDict[FunctionId, LogWriter] = collections.OrderedDict()
        self._last: dict[str, str] = {}
        self._open: collections.Counter[str] = collections.Counter()
        self._drained: dict[str, list[Callable[[], None]]] = {}
        self._followers: dict[FunctionId, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._unchecked_bytes = 0
        self._disk_failed = False
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="logs", daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending = True
        self._wake()
        await asyncio.to_thread(self._thread.join)
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()
        for arrival in self._arrivals:
            if isinstance(arrival, _Attached):
                os.close(arrival.fd)
        os.close(self._waker)
        for writer in self._writers.values():
            writer.close()

    def attach(self, function: FunctionId, instance: str, pipes: tuple[int, ...]) -> None:
        """Take over the read ends of a process's stdout and stderr."""
        with self._lock:
            self._open[instance] += len(pipes)
            self._arrivals.extend(_Attached(fd, _Source(function, instance)) for fd in pipes)
        self._wake()

    def say(self, function: FunctionId, instance: str, text: str, call_id: str = "") -> None:
        """Write a line of the platform's own, about the instance and, where one is named, a call."""
        self._arrive(_Said(function, Entry(time.time_ns(), instance, text, call_id)))

    def clear(self, namespace: str, name: str = "") -> None:
        """Remove what was written under a function's name, or in the whole namespace: who has the name next is another.

        What is left of the old function's replicas writes nothing any more.
        """
        self._arrive(_Cleared(namespace, name))

    def last_line(self, instance: str) -> str:
        """Return the last line that is not blank of what the instance wrote, shortened to 300 characters."""
        return self._last.get(instance, "")

    async def drained(self, instance: str, within_s: float) -> None:
        """Wait until everything that the instance's ended processes wrote has been read, `within_s` at most."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(done.set)

        with self._lock:
            if instance not in self._open:
                return
            self._drained.setdefault(instance, []).append(tell)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), within_s)

    def forget(self, instance: str) -> None:
        """Drop what is remembered of an instance that is gone; its lines stay in the files."""
        with self._lock:
            self._last.pop(instance, None)
            self._drained.pop(instance, None)

    async def read(self, query: LogQuery, *, exists: bool) -> AsyncIterator[LogLine]:
        """Yield lines, oldest first. `exists` says that the function is deployed. Raises NotFound, InvalidName."""
        check_namespace(query.function.namespace)  # the names become a path
        check_function_name(query.function.name)
        folder = self._folder / query.function.namespace / query.function.name
        if not exists and not await asyncio.to_thread(segments, folder):
            raise NotFound(f"there is no function {query.function.name!r} in namespace {query.function.namespace!r}")
        reader = LogReader(folder, query.instance, int((query.since or 0) * 1e9), query.call)
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(news.set)

        if query.follow:
            with self._lock:
                self._followers.setdefault(query.function, []).append(tell)
        try:
            if query.tail > 0:
                await asyncio.to_thread(reader.seek_tail, query.tail)
            while True:
                news.clear()
                entries = await asyncio.to_thread(reader.read)
                for entry in entries:
                    yield entry.line(query.function)
                if not entries:
                    if not query.follow:
                        return
                    await news.wait()
                    await asyncio.sleep(FOLLOW_PAUSE_S)  # lines that come together are read together
        finally:
            if query.follow:
                with self._lock:
                    self._followers[query.function].remove(tell)
                    if not self._followers[query.function]:
                        del self._followers[query.function]

    def _arrive(self, arrival: _Said | _Cleared) -> None:
        with self._lock:
            self._arrivals.append(arrival)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"x")

    def _work(self) -> None:
        age_at = time.monotonic()
        while True:
            ending = self._ending
            ready = self._selector.select(0 if ending else max(0.0, age_at - time.monotonic()))
            began = time.monotonic()
            if began >= age_at and not ending:
                age_at = began + self._age_every_s
                self._hold_age()
            with self._lock:
                arrivals, self._arrivals = self._arrivals, collections.deque()
            for arrival in arrivals:
                self._take(arrival)
            entries: dict[FunctionId, list[Entry]] = {}
            ended: list[str] = []
            read_any = False
            for key, _ in ready:
                if key.data is None:
                    os.read(self._woken, 4096)
                else:
                    read_any = True
                    entries.setdefault(key.data.function, []).extend(self._read(key.fd, key.data, ended))
            for function, found in entries.items():
                if found:
                    self._write(function, found)
            for instance in ended:  # told when the last line is in the file
                self._closed(instance)
            if ending and not read_any:
                return
            worked_s = time.monotonic() - began
            if worked_s > BUSY_S and not ending:
                time.sleep(worked_s * REST_FACTOR)

    def _take(self, arrival: _Attached | _Said | _Cleared) -> None:
        match arrival:
            case _Attached(fd, source):
                os.set_blocking(fd, False)
                self._selector.register(fd, selectors.EVENT_READ, source)
            case _Said(function, entry):
                self._write(function, [entry])
            case _Cleared(namespace, name):
                self._clear(namespace, name)

    def _clear(self, namespace: str, name: str) -> None:
        for key in self._selector.get_map().values():
            if key.data is not None and key.data.function == (namespace, name or key.data.function.name):
                key.data.unwanted = True
        for path in list((self._folder / namespace).glob(f"{name or '*'}/*.log")):
            with contextlib.suppress(OSError):
                self._remove(path)

    def _read(self, fd: int, source: _Source, ended: list[str]) -> list[Entry]:
        try:
            data = os.read(fd, PIPE_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        lines = source.lines.feed(data) if data else source.lines.end()
        now = time.time_ns()
        for _, text in reversed(lines):
            if text.strip():
                self._last[source.instance] = text.strip()[:300]
                break
        if not data:
            self._selector.unregister(fd)
            os.close(fd)
            ended.append(source.instance)
        if source.unwanted:
            return []
        entries = []
        for place, (mark, text) in enumerate(lines):
            call_id, _, trace = mark.partition(" ")
            entries.append(Entry(now + place, source.instance, text, call_id, trace))
        return entries

    def _closed(self, instance: str) -> None:
        with self._lock:
            self._open[instance] -= 1
            waiting = []
            if not self._open[instance]:
                del self._open[instance]
                waiting = self._drained.pop(instance, [])
        for tell in waiting:
            tell()

    def _write(self, function: FunctionId, entries: list[Entry]) -> None:
        try:
            self._writer(function).write(entries)
            self._disk_failed = False
        except OSError as error:
            if writer := self._writers.pop(function, None):
                with contextlib.suppress(OSError):
                    writer.close()
            if not self._disk_failed:
                log.error("output of functions is lost: %s: %s", self._folder, error.strerror)
            self._disk_failed = True
            return
        self._unchecked_bytes += sum(len(entry.x) for entry in entries)
        if self._unchecked_bytes >= min(QUOTA_EVERY_BYTES, self._quota_bytes // 4):
            self._unchecked_bytes = 0
            self._hold_quota()
        with self._lock:
            followers = list(self._followers.get(function, ()))
        for tell in followers:
            tell()

    def _writer(self, function: FunctionId) -> LogWriter:
        writer = self._writers.get(function)
        if writer is None:
            writer = self._writers[function] = LogWriter(self._folder / function.namespace / function.name)
            if len(self._writers) > WRITERS_OPEN:
                self._writers.popitem(last=False)[1].close()
        self._writers.move_to_end(function)
        return writer

    def _hold_quota(self) -> None:
        """Remove the longest untouched segments until all fit."""
        found = self._segments()
        excess = sum(size for _, size, _ in found) - self._quota_bytes
        for _, size, path in sorted(found):
            if excess <= 0:
                return
            self._remove(path)
            excess -= size

    def _hold_age(self) -> None:
        """Remove segments that nobody wrote to for too long."""
        oldest = self._clock() - self._keep_s
        for modified, _, path in self._segments():
            if modified < oldest:
                self._remove(path)

    def _segments(self) -> list[tuple[float, int, Path]]:
        """Return all functions' segments: when they were last written to, their sizes in bytes, and where they are."""
        found = []
        for path in self._folder.glob("*/*/*.log"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found

    def _remove(self, path: Path) -> None:
        """Remove a segment. One that is being written is emptied by moving on from it."""
        function = FunctionId(path.parent.parent.name, path.parent.name)
        if writer := self._writers.pop(function, None):
            writer.close()
        path.unlink(missing_ok=True)
