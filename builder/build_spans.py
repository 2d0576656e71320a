"""The spans of one build: the whole, its wait for a turn, and a step for each line that it reported, up to the next."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from builder.events import BuildEvent
from telemetry.current import current
from telemetry.spans import Attribute, Span

MOST_STEPS: Final = 100
LONGEST_LINE: Final = 200


class BuildSpans:
    """Notes what a build reports; `clock` gives nanoseconds since 1970. It stands below the request that asked for it."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._above = current.get()
        self._began = clock()
        self._started: int | None = None
        self._steps: list[tuple[int, str]] = []
        self._image = ""
        self._error = ""

    def started(self) -> None:
        """Its worker starts."""
        self._started = self._clock()

    def reported(self, event: BuildEvent) -> None:
        """It reported something."""
        now = self._clock()
        self._image = event.image or self._image
        self._error = event.error
        for text in event.log:
            if self._started is not None and len(self._steps) < MOST_STEPS:
                self._steps.append((now, text[:LONGEST_LINE]))

    def ended(self, status: str) -> list[Span]:
        """Return the spans of the build, which ended so."""
        now = self._clock()
        trace, above = self._above or (secrets.token_hex(16), "")
        spans: list[Span] = []

        def add(name: str, parent: str, start: int, end: int, attributes: dict[str, Attribute], error: str = "") -> str:
            span = Span(
                trace=trace,
                span=secrets.token_hex(8),
                parent=parent,
                name=name,
                kind="internal",
                start_ns=start,
                end_ns=end,
                attributes=attributes,
                error=error,
            )
            spans.append(span)
            return span.span

        error = "" if status == "success" else self._error or status
        whole: dict[str, Attribute] = {"pinnace.build.image": self._image, "pinnace.build.status": status}
        root = add("build", above, self._began, now, whole, error)
        if self._started is not None:
            add("build queue", root, self._began, self._started, {})
            ends = [at for at, _ in self._steps[1:]] + [now]
            for (at, text), end in zip(self._steps, ends, strict=True):
                add("build step", root, at, end, {"pinnace.build.step": text})
        return spans
