"""What is going on while something takes long, on standard error: silence for the first half second.

On a terminal it is one line that is rewritten and at last wiped away; elsewhere each stage that itself takes long is one
line.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from cli.tables import color, seconds_text, terminal_width

QUIET_S = 0.5
_TICK_S = 0.1


class _Stage(NamedTuple):
    """What a thing does, since when, and since when it has been doing anything."""

    text: str
    since: float
    begun: float


class Progress:
    """Shows the stages of several things (functions) at once; all methods may be called from any thread.

    As a context manager it owns the thread that redraws the line.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, quiet_s: float = QUIET_S
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._quiet_s = quiet_s
        self._live = self._stream.isatty()
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}
        self._told: dict[str, str] = {}
        self._drawn = 0
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True, name="progress")

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._ticker.join()
        with self._lock:
            self._wipe()

    def stage(self, name: str, text: str) -> None:
        """`name` is now doing `text`; on a terminal its time counts from its first stage."""
        with self._lock:
            now = self._clock()
            self._stages[name] = _Stage(text, now, self._stages[name].begun if name in self._stages else now)

    def done(self, name: str) -> None:
        """`name` has nothing more to show."""
        with self._lock:
            self._stages.pop(name, None)
            self._wipe()

    def say(self, line: str, stream: TextIO | None = None) -> None:
        """Print a line that stays, here or on another stream, without tearing the one that is redrawn."""
        with self._lock:
            self._wipe()
            print(line, file=stream or self._stream, flush=True)

    def draw(self) -> None:
        """Show what has lasted long enough; the ticker calls it ten times a second."""
        with self._lock:
            now = self._clock()
            if self._live:
                self._draw_line(now)
                return
            for name, stage in self._stages.items():
                if now - stage.since >= self._quiet_s and self._told.get(name) != stage.text:
                    self._told[name] = stage.text
                    print(f"{name}: {stage.text} ...", file=self._stream, flush=True)

    def _draw_line(self, now: float) -> None:
        slow = {name: stage for name, stage in self._stages.items() if now - stage.begun >= self._quiet_s}
        if not slow:
            return
        name, stage = next(iter(slow.items()))
        more = f" (and {len(slow) - 1} more)" if len(slow) > 1 else ""
        line = f"{name}: {stage.text} {seconds_text(now - stage.begun)}{more}"[: max(10, terminal_width(self._stream) - 1)]
        self._wipe()
        self._stream.write(color(line, "dim", self._stream))
        self._stream.flush()
        self._drawn = len(line)

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            self.draw()
