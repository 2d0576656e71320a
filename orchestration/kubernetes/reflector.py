"""A copy of all objects of a kind, kept up to date by a watch.

List once, then watch from where the list ended. A watch that ends is begun again where it was; when the server has forgotten
that point (410), or anything else is odd, the list is asked for again and what differs is told. So a watcher sees every
object's latest state, not every state.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from orchestration.kubernetes.api import ApiError, Expired, Kind, key_of, version_of
from orchestration.kubernetes.client import LONGEST_PUT_OFF_S, Cluster
from orchestration.kubernetes.resource import Manifest

log = logging.getLogger("pinnace.kubernetes")

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 10.0

Changed = Callable[[Manifest | None, Manifest | None], None]
"""Told of a change: what was there and what is there; None where there is nothing."""


class Reflector:
    """Owns the copy and the task that keeps it. `changed` is called in order, on the loop, after the copy has changed."""

    def __init__(self, cluster: Cluster, kind: Kind, changed: Changed, *, selector: str = "") -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self.problem = ""
        self._cluster = cluster
        self._changed = changed
        self._selector = selector
        self._objects: dict[tuple[str, str], Manifest] = {}
        self._version = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"watch {self.kind.plural}")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that keeps the copy; it ends only when the context is left, or by a defect."""
        assert self._task is not None
        return self._task

    def get(self, namespace: str, name: str) -> Manifest | None:
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Manifest]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def feed(self, document: Manifest) -> None:
        """Take an object as a write's answer showed it, before the watch does."""
        document["metadata"].pop("managedFields", None)
        is_old = self._version.isdigit() and version_of(document) <= int(self._version)
        if key_of(document) in self._objects or not is_old:  # else the watch has already seen it go
            self._put(document)

    def drop(self, namespace: str, name: str) -> None:
        """Take it that an object is gone, as a request's answer showed."""
        self._remove((namespace, name))

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                if not self._version:
                    await self._list()
                async for event, document in self._cluster.watch(self.kind, self._version, selector=self._selector):
                    pause_s = FIRST_PAUSE_S
                    self._take(event, document)
                await asyncio.sleep(FIRST_PAUSE_S)
            except Expired:
                self._version = ""
            except ApiError as error:
                if self.problem != error.message:
                    log.warning("cannot watch %s: %s", self.kind.plural, error.message)
                self.problem = error.message
                put_off_s = min(error.retry_after_s, LONGEST_PUT_OFF_S)
                await asyncio.sleep(max(put_off_s, pause_s * random.uniform(0.5, 1.0)))  # noqa: S311
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _list(self) -> None:
        documents, version = await self._cluster.listed(self.kind, selector=self._selector)
        there = {key_of(document) for document in documents}
        for key in [key for key, held in self._objects.items() if key not in there and version_of(held) <= int(version)]:
            self._remove(key)
        for document in documents:
            self._put(document)
        self._version = version
        self.problem = ""
        self.synced.set()

    def _take(self, event: str, document: Manifest) -> None:
        self._version = document["metadata"]["resourceVersion"]
        if event == "DELETED":
            self._remove(key_of(document), document)
        elif event != "BOOKMARK":
            self._put(document)

    def _put(self, document: Manifest) -> None:
        key = key_of(document)
        held = self._objects.get(key)
        if held is not None and version_of(held) >= version_of(document):
            return
        self._objects[key] = document
        self._changed(held, document)

    def _remove(self, key: tuple[str, str], last: Manifest | None = None) -> None:
        held = self._objects.get(key)
        if held is None or (last is not None and version_of(held) > version_of(last)):  # it was made anew meanwhile
            return
        del self._objects[key]
        self._changed(held, None)
