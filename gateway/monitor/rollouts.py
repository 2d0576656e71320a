"""Watches gradual rollouts: compares old and new revision each second, brings them a step on, or has them given up.

A step is judged by what edges counted since it began, or since this process saw it: after a restart the step begins again.
Where a rollout stands is the orchestrator's to keep; this only says `proceed` and `abort`, and says it again until it is seen.
Without a gradual rollout nothing is looked at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, Literal, Self

from gateway.edge.tally import BOUNDS_S, Tally
from orchestration.events import Event, FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.gradual import GradualRollout, Outcomes, gradual_settings, verdict
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.traffic import Table
from telemetry.histogram import Histogram

log = logging.getLogger("pinnace.rollout")

LOOK_EVERY_S: Final = 1.0
WRITE_WITHIN_S: Final = 30.0

Revisions = Callable[[], Mapping[tuple[str, str], Tally]]
"""What edges counted of each revision, by namespace and name, of functions where calls can come to several."""
Outcome = Literal["finished", "aborted"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("finished", "aborted")


class _Step:
    """A step that is being judged; `began` is monotonic seconds, `before` what was counted until then."""

    def __init__(self, function: Function, gradual: GradualRollout, began: float) -> None:
        self.function = function
        self.gradual = gradual
        self.began = began
        self.before: dict[str, Tally] = {}


class GradualRollouts:
    """`revisions` are an edge's figures, `clock` gives monotonic seconds. An async context manager: while entered it looks.

    Only who `leads` decides; `outcomes` counts what it came to here. `split` has the tables of functions where calls can come
    to several revisions.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        revisions: Revisions,
        clock: Callable[[], float] = time.monotonic,
        *,
        leads: bool = True,
    ) -> None:
        self.outcomes: Counter[tuple[FunctionId, Outcome]] = Counter()
        self.split: dict[FunctionId, Table] = {}
        self._orchestrator = orchestrator
        self._revisions = revisions
        self._clock = clock
        self._leads = leads
        self._steps: dict[FunctionId, _Step] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def apply(self, event: Event) -> None:
        """Follow what an orchestrator's `watch` yielded."""
        match event:
            case FunctionChanged(function):
                self._changed(function)
            case FunctionRemoved(namespace, name):
                gone = FunctionId(namespace, name)
                self._steps.pop(gone, None)
                self.split.pop(gone, None)
                for outcome in OUTCOMES:
                    self.outcomes.pop((gone, outcome), None)

    def lead(self, leads: bool) -> None:
        """Begin or cease to decide; who begins judges each step from now on."""
        self._leads = leads
        if leads:
            for step in list(self._steps.values()):
                self._begin(step.function, step.gradual)

    def under_way(self) -> Iterator[tuple[FunctionId, GradualRollout]]:
        """Yield each function that rolls out gradually, and where it stands."""
        for function, step in self._steps.items():
            yield function, step.gradual

    async def look(self) -> None:
        """Judge each step that is under way."""
        if not self._leads:
            return
        for function, step in list(self._steps.items()):
            try:
                async with asyncio.timeout(WRITE_WITHIN_S):
                    await self._judge(function, step)
            except NotFound:
                self._steps.pop(function, None)
            except Exception:  # it stays at its step, and is looked at again
                log.exception("%s: its rollout cannot go on now", function)

    # inside

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()
            if not self._steps:
                self._some.clear()

    def _changed(self, function: Function) -> None:
        if len({target.revision for target in function.traffic}) > 1:
            self.split[function.id] = function.traffic
        else:
            self.split.pop(function.id, None)
        gradual, held = function.gradual, self._steps.get(function.id)
        if gradual is None:
            self._steps.pop(function.id, None)
        elif held is None or (held.gradual.revision, held.gradual.step) != (gradual.revision, gradual.step):
            self._begin(function, gradual)
        else:
            held.function = function

    def _begin(self, function: Function, gradual: GradualRollout) -> None:
        step = self._steps[function.id] = _Step(function, gradual, self._clock())
        counted = self._revisions()
        for revision in (function.latest_ready, gradual.revision):
            if (tally := counted.get((function.id.namespace, revision))) is not None:
                step.before[revision] = tally.copy()
        self._some.set()

    async def _judge(self, function: FunctionId, step: _Step) -> None:
        settings, gradual = gradual_settings(step.function.spec), step.gradual
        why = verdict(self._outcomes(step, step.function.latest_ready), self._outcomes(step, gradual.revision), settings)
        if why:
            log.warning("%s: %s is given up: %s", function, gradual.revision, why)
            await self._orchestrator.abort(function, gradual.revision, f"given up at {gradual.percent} % of the calls: {why}")
            self._over(function, step, "aborted")
        elif self._clock() - step.began >= settings.step_s:
            following = gradual.step + 1
            await self._orchestrator.proceed(function, gradual.revision, following)
            if following >= len(settings.steps):
                self._over(function, step, "finished")

    def _over(self, function: FunctionId, step: _Step, outcome: Outcome) -> None:
        if self._steps.get(function) is step:
            del self._steps[function]
        self.outcomes[function, outcome] += 1

    def _outcomes(self, step: _Step, revision: str) -> Outcomes:
        counted = self._revisions().get((step.function.id.namespace, revision)) or Tally()
        before = step.before.get(revision)
        return outcomes(counted.since(before) if before is not None else counted)


def outcomes(tally: Tally) -> Outcomes:
    """Return what a tally says of how a revision did."""
    durations = Histogram(BOUNDS_S)
    for counted in tally.by_code.values():
        durations.add(counted)
    return Outcomes(sum(n for code, n in tally.codes.items() if code >= 500), durations, BOUNDS_S)
