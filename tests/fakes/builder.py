"""A builder that builds nothing: it tells the events it was given, and remembers what it was asked to build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from builder.admission import BuilderBusy
from builder.events import BuildEvent
from builder.keys import PublicKey

SUCCESS = (BuildEvent(["building"], "example:latest", "in_progress"), BuildEvent([], "example:latest", "success", "", 0.1))


class FakeBuilder:
    """`contexts` are the bytes of the tars that came. `fails_with` is raised after the events; while
    `gate` is not set, a build stops after its first event.

    `open_builds` counts builds whose reader has not left.
    """

    def __init__(self, events: Sequence[BuildEvent] = SUCCESS) -> None:
        self.events = events
        self.busy = False
        self.fails_with: Exception | None = None
        self.contexts: list[bytes] = []
        self.files: list[Path] = []
        self.pulled: list[str] = []
        self.open_builds = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def build(self, context: Path) -> AsyncIterator[BuildEvent]:
        if self.busy:
            raise BuilderBusy("66 builds are running or waiting; try again in a few seconds")
        return self._events(context)

    async def pull(self, image: str) -> None:
        self.pulled.append(image)

    async def public_key(self) -> PublicKey:
        text = "A" * 43 + "="
        return PublicKey(key_id=text[:8], algorithm="nacl/box", public_key=text)

    async def _events(self, context: Path) -> AsyncIterator[BuildEvent]:
        self.open_builds += 1
        try:
            self.files.append(context)
            self.contexts.append(await asyncio.to_thread(context.read_bytes))
            for event in self.events:
                yield event
                await self.gate.wait()
            if self.fails_with is not None:
                raise self.fails_with
        finally:
            self.open_builds -= 1
