"""Says in a function's log that one of its processes died, why, and in which calls; and which calls the edge gave up.

A process that is killed, or leaves by `os._exit`, writes nothing itself. The orchestrator tells how it ended, and the edge
has a record of each call that got no answer because of it. Edges that are processes of their own pass records on ten times
a second, so that the line waits for a moment.

A call that runs too long is told of by the runtime in its replica. Where that cannot (it is stopped, or code of the function's
holds the interpreter's lock), and for a call that no replica took, the edge's records tell, which are looked at each second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from gateway.edge.records import CallRecord
from gateway.edge.tally import Tally
from orchestration.events import Event, FunctionRemoved, ReplicaChanged
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState

SETTLED_S: Final = 0.3
LOOK_EVERY_S: Final = 1.0
LOST: Final = 502
"""How a call ends whose replica took its connection along."""

AT_MOST_BEFORE_S: Final = 2.0
"""A call is lost with its process only if it ended at about the same time: a function may answer 502 itself."""


TOLD_KEPT: Final = 256
"""Calls that were told of, by their marks: a replica that dies twice within that time did not take the same ones along again.
Their ids would not do: the attempts of an asynchronous call share one."""


class Say(Protocol):
    """Writes a line into a function's log, about a replica and perhaps a call."""

    def __call__(self, function: FunctionId, replica: str, text: str, call_id: str = "", /) -> None: ...


def untold(function: FunctionId, replica: str, text: str, call_id: str = "", /) -> None:
    """Write nothing: the log is not the platform's."""


class Ends:
    """`tallies` are an edge's, `clock` gives Unix seconds. An async context manager: while entered it looks; what waits at its
    end is said at once."""

    def __init__(
        self, say: Say, tallies: Callable[[], Mapping[FunctionId, Tally]], clock: Callable[[], float] = time.time
    ) -> None:
        self._say = say
        self._tallies = tallies
        self._clock = clock
        self._served: set[str] = set()
        self._told: deque[bytes] = deque(maxlen=TOLD_KEPT)
        self._waiting: dict[asyncio.TimerHandle, Callable[[], None]] = {}
        self._newest: dict[FunctionId, CallRecord] = {}
        self._given_up: dict[FunctionId, set[bytes]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self.look()
        waiting, self._waiting = self._waiting, {}
        for timer, tell in waiting.items():
            timer.cancel()
            tell()

    def apply(self, event: Event) -> None:
        """Follow what an orchestrator's `watch` yielded."""
        if isinstance(event, FunctionRemoved):
            self._newest.pop(FunctionId(event.namespace, event.name), None)
            self._given_up.pop(FunctionId(event.namespace, event.name), None)
        if not isinstance(event, ReplicaChanged):
            return
        replica = event.replica
        served = replica.id in self._served
        if replica.state in (ReplicaState.RUNNING, ReplicaState.DRAINING):
            self._served.add(replica.id)
            return
        self._served.discard(replica.id)
        if replica.reason and (served or replica.state is not ReplicaState.STOPPED):  # the reason may be an earlier one
            self._soon(replica, served, self._clock())

    def look(self) -> None:
        """Tell of calls that the edge gave up since the last look: of as many as it has records of."""
        for function, tally in self._tallies().items():
            notable = tally.records.notable if tally.records is not None else ()
            if not notable or notable[-1] is self._newest.get(function):
                continue
            self._newest[function] = notable[-1]
            told = self._given_up.get(function, set())
            late = {record.marks: record for record in notable if record.limit_s}
            for marks, record in late.items():
                if marks not in told:
                    self._say(function, record.replica, f"[pinnace] {_given_up(record)} (call {record.id})", record.id)
            self._given_up[function] = set(late)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def _soon(self, replica: Replica, served: bool, now: float) -> None:
        def tell() -> None:
            self._waiting.pop(timer, None)
            self._tell(replica, served, now)

        timer = asyncio.get_running_loop().call_later(SETTLED_S, tell)
        self._waiting[timer] = tell

    def _tell(self, replica: Replica, served: bool, ended_at: float) -> None:
        function = FunctionId(replica.namespace, replica.function)
        if not served:
            self._say(function, replica.id, f"[pinnace] this replica did not start: {replica.reason}")
            return
        text = f"[pinnace] this replica's process ended: {replica.reason}"
        tally = self._tallies().get(function)
        records = tally.records.all() if tally is not None and tally.records is not None else []
        lost = [
            record
            for record in reversed(records)
            if record.replica == replica.id
            and record.code == LOST
            and record.marks not in self._told
            and record.started_at + record.duration_s >= ended_at - AT_MOST_BEFORE_S
        ]
        self._told.extend(record.marks for record in lost)
        for record in lost:
            self._say(function, replica.id, f"{text} (call {record.id})", record.id)
        if not lost:
            self._say(function, replica.id, text)


def _given_up(record: CallRecord) -> str:
    if record.replica:
        return f"this replica did not answer within the function's timeout, {record.limit_s:g} s"
    return f"a call waited {record.limit_s:g} s, and no replica took it"
