"""The platform's own scaler at work: each sample reaches the decider at once, and each time it decides."""

from __future__ import annotations

from autoscaler.alarms import Alarms
from autoscaler.decider import Decider
from autoscaler.starts import StartLimits
from orchestration.decisions import Decision
from orchestration.load import LoadSample


class Live:
    """Asks the decider when the live loop does (`autoscaler.scaler`). `starts_at` is Unix seconds of the trace's beginning."""

    def __init__(self, decider: Decider, starts_at: float) -> None:
        self._decider = decider
        self._starts_at = starts_at
        self._room = StartLimits().per_function
        self._alarms: Alarms[str] = Alarms()
        self.latest: Decision | None = None
        """What was decided last, and why."""
        settings = decider.settings
        self.initial = 0 if settings.zero else max(1, settings.min_replicas, settings.initial_replicas)

    @property
    def look_at(self) -> float:
        """When the loop's next alarm rings. An alarm is not taken back when a later look would do: so it is in the loop."""
        return self._alarms.first

    def observe(self, sample: LoadSample, now: float) -> bool:
        """Take a sample; each is a reason to decide."""
        self._decider.observe(sample, now)
        return True

    def replicas_changed(self) -> bool:
        """What became of a replica is a reason to decide too."""
        return True

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        """Return what the decider says, with no more replicas starting than one function may have."""
        self._alarms.due(now)
        decision = self._decider.decide(now, self._starts_at + now, wanted=wanted, ready=ready, starting=starting)
        self.latest = decision
        self._alarms.set("", self._decider.look_at)
        return min(decision.replicas, max(wanted, wanted + self._room - starting))

    def expect(self, at: float, lead_s: float) -> None:
        """A call is due."""
        self._decider.expect(at, lead_s)
        self._alarms.set("", self._decider.look_at)
