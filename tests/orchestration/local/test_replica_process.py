"""One replica's life and the line before it, with a starter that starts nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from unittest.mock import AsyncMock

import pytest

from orchestration.local.keeper_link import Exit, KeptProcess
from orchestration.local.launch import Launched, LaunchFailed
from orchestration.local.replica_process import ReplicaProcess
from orchestration.local.start_places import StartPlaces
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.revision import Revision, make_revision
from tests.orchestration.local.world import spec, until


def revision(name: str = "hello") -> Revision:
    return make_revision(spec(name), "sha256:x", 1, 0.0)


class Starter:
    """Gives processes whose ends the test decides; `say` is written to the notify pipe at once."""

    def __init__(self, say: bytes = b'{"ready": true}\n', failures: int = 0) -> None:
        self.say = say
        self.failures = failures
        self.launched: list[Launched] = []
        self.signals: list[int] = []
        self.left: list[str] = []

    def prepared(self, revision: Revision) -> bool:
        return False

    async def prepare(self, revision: Revision) -> None:
        return

    async def start(self, revision: Revision, replica: str) -> Launched:
        if self.failures:
            self.failures -= 1
            raise LaunchFailed("cannot run 'nope': No such file or directory")
        reading, writing = os.pipe()
        os.write(writing, self.say)
        os.close(writing)
        exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

        def signalled(identity: str, number: int) -> None:
            self.signals.append(number)
            if not exited.done():
                exited.set_result(Exit(status=0))

        process = KeptProcess(replica, 1, exited, signalled)
        launched = Launched(process, Endpoint(unix="/nowhere.sock"), reading, None)
        self.launched.append(launched)
        return launched

    def ended(self, launched: Launched) -> None:
        os.close(launched.notify)

    async def gone(self, replica: str) -> None:
        self.left.append(replica)

    async def output(self, replica: str, within_s: float) -> str:
        return "last words"


class Life:
    def __init__(self, starter: Starter, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.told: list[Replica] = []
        self.process = ReplicaProcess("r1", revision(), starter, StartPlaces(), lambda p: self.told.append(p.replica), clock)
        self.process.begin()

    @property
    def states(self) -> list[str]:
        return [replica.state.value for replica in self.told]

    async def runs_again(self, times: int) -> None:
        await until(lambda: self.states.count("Running") == times)

    async def end(self) -> None:
        self.process.stop(drain_s=0)
        await asyncio.wait_for(self.process.stopped(), 20)


async def test_pending_running_draining_stopped() -> None:
    starter = Starter()
    life = Life(starter)
    await until(lambda: life.process.running)
    life.process.stop()
    await until(lambda: life.states[-1] == "Draining")
    assert starter.signals == []
    life.process.released()
    await asyncio.wait_for(life.process.stopped(), 20)
    assert life.states == ["Pending", "Running", "Draining", "Stopped"]
    assert starter.signals[0] == 15
    assert starter.left == ["r1"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Exit(signal=11), "killed by SIGSEGV; its last line: last words"),
        (Exit(status=0), ""),
        (None, ""),  # it has no call any more, and is ended
    ],
)
async def test_a_process_that_dies_with_its_last_calls_says_why(end: Exit | None, reason: str) -> None:
    starter = Starter()
    life = Life(starter)
    await life.runs_again(1)
    life.process.stop(drain_s=10)
    await until(lambda: life.states[-1] == "Draining")
    if end is None:
        life.process.released()
    else:
        starter.launched[0].process.exited.set_result(end)
    await asyncio.wait_for(life.process.stopped(), 20)
    assert (life.states[-1], life.told[-1].reason) == ("Stopped", reason)


async def test_the_second_end_waits_and_a_stop_does_not_wait_for_it() -> None:
    starter = Starter()
    life = Life(starter)
    for number in range(2):
        await life.runs_again(number + 1)
        starter.launched[number].process.exited.set_result(Exit(status=1))
    await until(lambda: life.states[-1] == "CrashLoopBackOff")
    assert life.told[-1].reason == "exited with status 1: last words"
    assert life.told[-1].restarts == 2
    await life.end()
    assert life.states == ["Pending", "Running", "Pending", "Running", "CrashLoopBackOff", "Stopped"]


async def test_a_process_that_ran_long_is_started_again_at_once() -> None:
    now = 0.0
    starter = Starter()
    life = Life(starter, lambda: now)
    for number in range(4):
        await life.runs_again(number + 1)
        now += 601
        starter.launched[number].process.exited.set_result(Exit(status=1))
    await life.runs_again(5)
    assert "CrashLoopBackOff" not in life.states
    await life.end()


async def test_what_cannot_be_started_says_why() -> None:
    life = Life(Starter(failures=2))
    await until(lambda: life.states[-1] == "CrashLoopBackOff")
    assert life.told[-1].reason == "cannot run 'nope': No such file or directory"
    await life.end()


async def test_what_nobody_foresaw_at_a_start_waits_like_any_end_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    starter = Starter()
    starter.start = AsyncMock(side_effect=ValueError("the file is cut short"))  # type: ignore[method-assign]
    life = Life(starter)
    await until(lambda: life.states[-1] == "CrashLoopBackOff")
    assert life.told[-1].reason == "cannot start: the file is cut short"
    await life.end()
    assert life.states == ["Pending", "Pending", "CrashLoopBackOff", "Stopped"]
    assert [record.message for record in caplog.records] == ["r1: cannot start: the file is cut short"]


async def test_a_replica_is_stopped_although_not_everything_of_it_could_be_taken_away() -> None:
    starter = Starter()
    starter.gone = AsyncMock(side_effect=OSError("busy"))  # type: ignore[method-assign]
    life = Life(starter)
    await life.end()
    assert life.states[-1] == "Stopped"


async def test_the_failure_it_names_is_the_reason() -> None:
    starter = Starter(say=b'{"failed": "handler.py, line 1: boom", "detail": "Traceback"}\n')
    life = Life(starter)
    await until(lambda: life.process.replica.reason)
    assert life.process.replica.reason == "handler.py, line 1: boom"
    await life.end()
    assert "Running" not in life.states


async def test_the_end_of_the_keeper_is_no_restart_of_its_own() -> None:
    starter = Starter()
    life = Life(starter)
    await until(lambda: life.process.running)
    starter.launched[0].process.exited.set_result(Exit(lost=True))
    await until(lambda: len(starter.launched) == 2 and life.process.running)
    assert life.process.replica.restarts == 0
    await life.end()


def test_states_are_the_words_of_the_domain() -> None:
    assert [state.value for state in ReplicaState] == ["Pending", "Running", "CrashLoopBackOff", "Draining", "Stopped"]
