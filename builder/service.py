"""Builds as the control process sees them: each runs in a worker process, a few at a time, and reports what it does.

    asked for ──► waiting (bounded) ──► worker runs ──► success | failed

The worker gets a process group of its own. Whatever ends a build (its result, the time limit, a client that went away,
the platform's stop) ends that group, before the worker is reaped, so that its number cannot mean somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

import builder
from builder.admission import Admission
from builder.build_spans import BuildSpans
from builder.durations import CANCELLED, Durations
from builder.events import BuildEvent, one_line
from builder.images import InvalidImageName
from builder.job import ImageJob, Job
from builder.keys import BuilderKey, PublicKey
from builder.registry.reference import is_allowed
from builder.store import BundleStore
from builder.templates import TEMPLATES_FOLDER
from orchestration.bundle import UnknownBundle
from telemetry.spans import Span

CONCURRENT_BUILDS = 2
LONGEST_QUEUE = 64
TIME_LIMIT_S = 600.0
COLLECT_EVERY_S = 3600.0
IMAGES_FOLDER = "containers"
"""In the store's folder: where container images are made (`builder.image_store`)."""

LONGEST_LINE_BYTES = 64 * 1024
ERRORS_KEPT_BYTES = 8192
STOPPING = "the gateway is stopping"

log = logging.getLogger(__name__)


class _Known(enum.Enum):
    """Whether an image's name stands for a bundle, and where that came from."""

    NOT = enum.auto()
    BUILT = enum.auto()
    PULLED = enum.auto()


class Builder:
    """Owns the workers; use it as an async context manager, on one event loop.

    `in_use` gives the digests of the bundles that revisions use, which no build may remove to make room. `offline`
    builds use no network. `time_limit_s` bounds one build from when its worker starts. Every `collect_every_s` what no
    revision uses any more is removed from the store.

    Images whose names are in one of the `registries` (`reference.is_allowed`) are built and pushed too, on `base_image` or
    the template's own base; with `images_only` no bundles are made. `on_span` is told what each build did when.
    """

    def __init__(
        self,
        store: BundleStore,
        *,
        in_use: Callable[[], Collection[str]] = frozenset,
        offline: bool = False,
        concurrent: int = CONCURRENT_BUILDS,
        queue: int = LONGEST_QUEUE,
        time_limit_s: float = TIME_LIMIT_S,
        collect_every_s: float = COLLECT_EVERY_S,
        templates: Path = TEMPLATES_FOLDER,
        registries: Sequence[str] = (),
        base_image: str = "",
        images_only: bool = False,
        on_span: Callable[[Span], None] | None = None,
    ) -> None:
        self._store = store
        self._registries = tuple(registries)
        self._images = ImageJob(
            root=os.fspath(store.root / IMAGES_FOLDER), registries=list(registries), base=base_image, only=images_only
        )
        self._in_use = in_use
        self._offline = offline
        self._time_limit_s = time_limit_s
        self._collect_every_s = collect_every_s
        self._collecting: asyncio.Task[None] | None = None
        self._templates = templates
        self._admission = Admission(concurrent + queue)
        self._turns = asyncio.Semaphore(concurrent)
        self._workers: set[_Worker] = set()
        self._closing = False
        self._key = BuilderKey(store.root)
        self.durations = Durations()
        self._on_span = on_span

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._store.sweep)
        self._collecting = asyncio.create_task(self._collect_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.wait([self._collecting])
        for worker in list(self._workers):
            worker.kill(STOPPING)
            await worker.ended.wait()

    def build(self, context: Path) -> AsyncGenerator[BuildEvent, None]:
        """Build the context in the tar `context` and yield what happens; the last event is a success or a failure.

        Raises BuilderBusy at once when too many builds wait. Close the iterator (`aclosing`) to cancel the build.
        """
        return self._admit(context=context)

    def _admit(self, *, context: Path | None = None, pull: str = "") -> AsyncGenerator[BuildEvent, None]:
        return self._admission.admit(lambda: self._events(context, pull))

    def _is_elsewhere(self, image: str) -> bool:
        try:
            return is_allowed(image, self._registries)
        except InvalidImageName:
            return False  # the deploy says so

    def _known(self, image: str) -> _Known:
        try:
            self._store.resolve(image)
        except UnknownBundle:
            return _Known.NOT
        return _Known.PULLED if self._store.pulled(image) is not None else _Known.BUILT

    async def pull(self, image: str) -> None:
        """See to it that a bundle stands for an image of one of the builder's registries, as it is there now.

        Nothing happens for other images, and for those that were built here. What the registry cannot give, or is no
        bundle, is an UnknownBundle, unless there is a bundle of that name from before. Raises BuilderBusy.
        """
        if self._images.only or not self._is_elsewhere(image):
            return
        known = await asyncio.to_thread(self._known, image)
        if known is _Known.BUILT:
            return
        final = None
        async with contextlib.aclosing(self._admit(pull=image)) as events:
            async for event in events:
                final = event
        if final is None or final.status != "success":
            reason = final.error if final is not None else "the pull ended without a result"
            if known is _Known.NOT:
                raise UnknownBundle(reason)
            log.warning("%s was not pulled again: %s", image, reason)

    async def public_key(self) -> PublicKey:
        """Return the key with which clients encrypt build secrets for this gateway; it is made when first asked for."""
        return await asyncio.to_thread(self._key.public)

    async def _events(self, context: Path | None, pull: str) -> AsyncGenerator[BuildEvent, None]:
        asked_at, image, status = time.monotonic(), "", CANCELLED
        worker: _Worker | None = None
        spans = BuildSpans(time.time_ns)
        try:
            if self._turns.locked():
                yield BuildEvent(["waiting for other builds to finish"], "", "in_progress")
            await self._turns.acquire()  # given back when the worker ends, however slowly the events are read
            if self._closing:
                self._turns.release()
                yield BuildEvent([], "", "failed", STOPPING, _since(asked_at))
                return
            worker = self._start(context, pull)
            spans.started()
            async with contextlib.aclosing(worker.events()) as events:
                async for event in events:
                    image = event.image or image
                    spans.reported(event)
                    status = event.status if event.is_final else status
                    yield msgspec.structs.replace(event, image=image, duration=_since(asked_at))
        finally:
            self.durations.ended(status, time.monotonic() - asked_at)
            if self._on_span is not None:
                for span in spans.ended(status):
                    self._on_span(span)
            if worker is not None:
                worker.kill("the build was cancelled")

    async def _collect_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._collect_every_s)
            try:
                await asyncio.to_thread(self._store.sweep)  # of builds that were killed: their secrets, too
                collected = await asyncio.to_thread(self._store.collect, frozenset(self._in_use()), time.time())
                await asyncio.to_thread(self._collect_images)
            except Exception:  # the next turn may do better, and nobody waits for this task
                log.exception("unused bundles could not be removed")
                continue
            if collected.freed_bytes:
                log.info("removed %d unused bundles, %d bytes", len(collected.bundles), collected.freed_bytes)

    def _collect_images(self) -> None:
        root = Path(self._images.root)
        if root.exists():
            from builder.image_store import ImageStore  # it brings what makes images along, which a worker imports

            ImageStore(root, self._store.quota_bytes).collect(time.time())

    def _start(self, context: Path | None, pull: str) -> _Worker:
        job = Job(
            context=os.fspath(context) if context is not None else "",
            root=os.fspath(self._store.root),
            quota_bytes=self._store.quota_bytes,
            templates=os.fspath(self._templates),
            offline=self._offline,
            in_use=list(self._in_use()),
            images=self._images if self._registries or self._images.only else None,
            pull=pull,
        )
        try:
            worker = _Worker(job, self._time_limit_s, self._ended)
        except BaseException:
            self._turns.release()
            raise
        self._workers.add(worker)
        return worker

    def _ended(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        self._turns.release()


class _Worker:
    """One worker process and its group. `on_end` is called once, when the process has ended and was reaped."""

    def __init__(self, job: Job, time_limit_s: float, on_end: Callable[[_Worker], None]) -> None:
        self.ended = asyncio.Event()
        self._on_end = on_end
        self._reason = ""
        self._loop = asyncio.get_running_loop()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process has ended
        with tempfile.TemporaryFile() as job_file:
            job_file.write(msgspec.json.encode(job))
            job_file.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-m", "builder.worker", str(job_file.fileno())],
                cwd=Path(builder.__file__).parent.parent,  # where the packages are, installed or not
                stdin=subprocess.PIPE,  # held open: its end tells the worker that the platform is gone
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=(job_file.fileno(),),
                start_new_session=True,
                bufsize=0,
            )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        limit = f"the build took longer than {time_limit_s:g} s"
        self._deadline = self._loop.call_later(time_limit_s, self.kill, limit)

    def kill(self, reason: str) -> None:
        """End the process and everything it started; `reason` is what a build without a result failed of."""
        if not self.ended.is_set():
            self._reason = self._reason or reason
            os.killpg(self._process.pid, signal.SIGKILL)

    async def events(self) -> AsyncGenerator[BuildEvent, None]:
        """The worker's events up to the final one, which is made up from how the process ended if it sent none."""
        assert self._process.stdout is not None
        reader = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
        try:
            transport, _ = await self._loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
            )
        except BaseException:
            self._process.stdout.close()
            raise
        try:
            while line := await reader.readline():
                event = msgspec.json.decode(line, type=BuildEvent)
                yield event
                if event.is_final:
                    return
        finally:
            transport.close()
        await self.ended.wait()
        yield BuildEvent([], "", "failed", one_line(self._why()))

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._deadline.cancel()
        os.killpg(self._process.pid, signal.SIGKILL)  # what is left of the group; the leader is not reaped yet
        self._process.wait()
        os.close(self._pidfd)
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode and not self._reason:
            self._reason = self._postmortem()
        self._errors.close()
        self.ended.set()
        self._on_end(self)

    def _why(self) -> str:
        return self._reason or "the build process ended without a result"

    def _postmortem(self) -> str:
        code = self._process.returncode
        if code < 0:
            return f"the build process was killed by signal {-code}; perhaps the machine is short of memory"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - ERRORS_KEPT_BYTES))
        said = self._errors.read().decode(errors="replace").strip()
        log.error("build worker ended with code %d:\n%s", code, said)
        return f"internal error in the build process: {said.splitlines()[-1] if said else f'exit code {code}'}"


def _since(moment: float) -> float:
    return round(time.monotonic() - moment, 3)
