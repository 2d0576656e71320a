"""A live platform under load, and the simulator beside it: the same decisions from the same inputs, and about the same replicas
from the same calls.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from autoscaler.decider import Decider
from autoscaler.keep_alive import KeepAlive
from autoscaler.simulator.distribution import Distribution
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.live import Live
from autoscaler.simulator.load_record import trace_of
from autoscaler.simulator.measures import Measures
from autoscaler.simulator.policy import Policy
from autoscaler.simulator.synthetic import make
from orchestration.load_history import LoadHistory
from tests.autoscaler.simulator import journal
from tests.autoscaler.simulator.journal import Configured, Decided, Made, Overruled, Told
from tests.autoscaler.simulator.test_azure2019 import calls_of
from tests.end_to_end.platform import running, until

PROGRAM = Path(__file__).parent.parent / "autoscaler" / "simulator" / "programs" / "noting_platform.py"
HANDLER = "import time\n\n\ndef handle(event, context):\n    time.sleep(0.1)\n    return event.body\n"
LABELS = {
    "com.openfaas.scale.zero": "true",
    "com.openfaas.scale.zero-duration": "2s",
    "com.openfaas.scale.max": "8",
    "com.pinnace.concurrency": "2",
}
CLIENTS, FOR_S = 6, 3.0


@dataclass
class LiveRun:
    """What happened: `calls` were answered, in `took_s` seconds each, but for the first ones, which waited; `entries` is all
    that the decider was told and answered."""

    calls: int
    took_s: list[float]
    history: LoadHistory
    entries: list[journal.Entry]

    def counts(self) -> list[tuple[float, int]]:
        """When which count was asked for, in seconds since the first call came."""
        return [(e.wall - self.history.at[0], e.decision.replicas) for e in self._decided if e.decision.replicas != e.wanted]

    @property
    def start_s(self) -> float:
        """How long the first replica took from the decision until it could be called."""
        asked = next(e for e in self._decided if e.decision.replicas)
        return next(e for e in self._decided if e.ready).wall - asked.wall

    @property
    def _decided(self) -> list[Decided]:
        """The decisions since the first call came."""
        first = next(i for i, e in enumerate(self.entries) if isinstance(e, Told) and e.sample.arrivals)
        return [e for e in self.entries[first:] if isinstance(e, Decided)]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    """Six clients that call a function at zero one call after the other for three seconds; then it goes to zero again."""
    home = tmp_path_factory.mktemp("platform")
    os.environ["JOURNAL"] = str(home / "journal")
    try:
        with running(home, command=(sys.executable, PROGRAM)) as platform:
            flags = [flag for label, value in LABELS.items() for flag in ("--label", f"{label}={value}")]
            platform.deploy("nap", HANDLER, *flags)
            until(lambda: not platform.pids("nap"))
            end = time.monotonic() + FOR_S

            def client(number: int) -> list[float]:
                took_s = []
                while (began := time.monotonic()) < end:
                    assert platform.call("nap", str(number)).text == str(number)
                    took_s.append(time.monotonic() - began)
                return took_s

            with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
                clients = list(pool.map(client, range(CLIENTS)))
            until(lambda: not platform.pids("nap"))
            answer = platform.request("GET", "/api/v1/functions/nap/load")
            history = msgspec.json.decode(answer.body, type=LoadHistory)
        took_s = sorted(itertools.chain.from_iterable(took[1:] for took in clients))
        yield LiveRun(sum(map(len, clients)), took_s, history, list(journal.entries(home / "journal")))
    finally:
        del os.environ["JOURNAL"]


def test_the_simulator_decides_what_was_decided_live(live: LiveRun) -> None:
    """What the live decider was told is told to the simulator's: every decision is the same, to the last word."""
    decider: Decider | None = None
    simulated: Live | None = None
    decided = 0
    for entry in live.entries:
        match entry:
            case Made(settings=settings, capacity=capacity, now=now, replicas=replicas, learnt=learnt):
                decider = Decider(settings, capacity, now, replicas=replicas, learn=partial(KeepAlive.load, learnt))
                simulated = None
            case Configured(settings=settings, capacity=capacity):
                assert decider is not None
                decider.configure(settings, capacity)
            case Told(sample=sample, now=now):
                assert decider is not None
                (simulated or decider).observe(sample, now)
            case Overruled(now=now, replicas=replicas):
                assert decider is not None
                decider.overruled(now, replicas)
            case Decided() as known:
                assert decider is not None
                simulated = simulated or Live(decider, known.wall - known.now)
                count = simulated.decide(known.now, wanted=known.wanted, ready=known.ready, starting=known.starting)
                assert count == known.decision.replicas
                latest = simulated.latest
                assert latest is not None
                assert msgspec.structs.replace(latest, at=known.decision.at) == known.decision
                decided += 1
    assert decided > 10


def simulated(live: LiveRun) -> tuple[list[tuple[float, int]], Measures]:
    """Return when the simulator asks for which count, with clients and replicas as quick as the live ones were."""
    policy = Policy(name="deployed", labels=LABELS, start=Distribution.constant(live.start_s))
    last = len(live.took_s) - 1
    quick = ",".join(f"p{share}={live.took_s[last * share // 100]:.6f}" for share in (0, 25, 50, 75, 90, 100))
    trace = make(f"clients:clients={CLIENTS},at=0s,until={FOR_S}s,run={quick},length=10s")
    work = trace.workloads[0]
    controller = policy.controller(work, trace)
    counts: list[tuple[float, int]] = []
    decide = controller.decide

    def noted(now: float, **known: int) -> int:
        count = decide(now, **known)
        if count != known["wanted"]:
            counts.append((now, count))
        return count

    controller.decide = noted  # type: ignore[method-assign]
    return counts, Engine(work, controller, policy.model(), trace, 1).run()


def test_the_simulated_platform_does_about_what_the_live_one_did(live: LiveRun) -> None:
    """Within bounds that hold on a busy machine, too, where all clients stall together now and then; simulated ones do not."""
    counts, measures = simulated(live)
    happened = live.counts()
    assert measures.calls == pytest.approx(live.calls, rel=0.3)
    assert happened[0][1] >= 1 and counts[0][1] >= 1, "the first call wakes it"
    most, was = (max(n for _, n in changes) for changes in (counts, happened))
    assert abs(most - was) <= 2
    assert counts[-1][1] == happened[-1][1] == 0
    assert counts[-1][0] == pytest.approx(happened[-1][0], abs=2.5), "zero at the same time, give or take samples and stalls"
    assert _replica_s(counts) == pytest.approx(_replica_s(happened), rel=0.6)


def test_the_record_of_its_load_has_all_its_calls(live: LiveRun) -> None:
    trace = trace_of(live.history, "nap", "live")
    calls = calls_of(trace.workloads[0])
    assert len(calls) == live.calls
    # 0.1 s each and what the platform adds; what the first ones waited is not all known
    assert sum(runs_s for _, runs_s in calls) / len(calls) == pytest.approx(fmean(live.took_s), rel=0.3)


def _replica_s(counts: list[tuple[float, int]]) -> float:
    """Return the integral of the counts, up to the last change."""
    return sum(n * (until_s - at) for (at, n), (until_s, _) in itertools.pairwise(counts))
