"""All that deciders are told and answer, written down line by line, so that it can be told to others again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from autoscaler.decider import Decider
from autoscaler.keep_alive import KeepAlive
from orchestration.decisions import Decision
from orchestration.load import LoadSample
from orchestration.scaling import ScaleSettings


class Made(msgspec.Struct, frozen=True, tag=True):
    decider: int
    settings: ScaleSettings
    capacity: int
    now: float
    replicas: int
    learnt: bytes


class Configured(msgspec.Struct, frozen=True, tag=True):
    decider: int
    settings: ScaleSettings
    capacity: int


class Told(msgspec.Struct, frozen=True, tag=True):
    decider: int
    sample: LoadSample
    now: float


class Overruled(msgspec.Struct, frozen=True, tag=True):
    decider: int
    now: float
    replicas: int


class Decided(msgspec.Struct, frozen=True, tag=True):
    decider: int
    now: float
    wall: float
    wanted: int
    ready: int
    starting: int
    decision: Decision


Entry = Made | Configured | Told | Overruled | Decided


class Noting(Decider):
    """A decider that notes what it is told and what it answers in `file`."""

    file: TextIO
    _numbers = itertools.count(1)

    def __init__(
        self,
        settings: ScaleSettings,
        capacity: int,
        now: float,
        *,
        replicas: int = 0,
        learn: Callable[[], KeepAlive] = KeepAlive,
    ) -> None:
        self._number = next(self._numbers)
        learnt = learn() if settings.learns else None
        self._note(Made(self._number, settings, capacity, now, replicas, learnt.dump() if learnt else b""))
        super().__init__(settings, capacity, now, replicas=replicas, learn=lambda: learnt or learn())

    def configure(self, settings: ScaleSettings, capacity: int) -> None:
        self._note(Configured(self._number, settings, capacity))
        super().configure(settings, capacity)

    def observe(self, sample: LoadSample, now: float) -> None:
        self._note(Told(self._number, sample, now))
        super().observe(sample, now)

    def overruled(self, now: float, replicas: int) -> None:
        self._note(Overruled(self._number, now, replicas))
        super().overruled(now, replicas)

    def decide(self, now: float, wall: float, **known: Any) -> Decision:
        decision = super().decide(now, wall, **known)
        self._note(Decided(self._number, now, wall, decision=decision, **known))
        return decision

    def measured(self, value: float, now: float) -> None:
        raise NotImplementedError("a journal has no metrics")

    def expect(self, at: float, lead_s: float | None = None) -> None:
        raise NotImplementedError("a journal has no timers")

    def _note(self, entry: Entry) -> None:
        self.file.write(msgspec.json.encode(entry).decode() + "\n")
        self.file.flush()


def entries(path: Path) -> Iterator[Entry]:
    """Yield what was noted, as far as its last whole line."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield msgspec.json.decode(line, type=Entry)
