"""What the control process and its edges tell each other when there are several edges.

Downwards go the events of `orchestration.events` as they are, what an edge shall do, and slots; upwards what an edge
saw and did, and slots. Slots are calls that a replica may have at a time: see `slots`.
"""

from __future__ import annotations

import msgspec

from gateway.edge.figures import EdgeFigures
from gateway.edge.records import CallRecord
from gateway.edge.settings import EdgeSettings
from gateway.edge.tally import Tally
from orchestration.events import FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.replica import Endpoint
from telemetry.histogram import Histogram

# control process → edge


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """The first message: what the edge is. `control` and `acceptor` are where those listen."""

    settings: EdgeSettings
    control: Endpoint
    log_format: str
    acceptor: Endpoint | None = None


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """Everything that exists has been told: take calls."""


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """The edge owns `slots` more of the replica's slots. The first grant of an `epoch` counts from none."""

    namespace: str
    revision: str
    replica: str
    epoch: int
    slots: int


class Recall(msgspec.Struct, frozen=True, tag="recall"):
    """`calls` calls wait for a slot at other edges, the oldest since `since` (monotonic seconds). Replaces the last one."""

    namespace: str
    revision: str
    calls: int
    since: float


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """To be answered when everything before it has been done."""

    number: int


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Take no more calls, finish those in progress within `timeout_s`."""

    timeout_s: float


# edge → control process


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """The edge takes calls."""


class CannotListen(msgspec.Struct, frozen=True, tag="cannot-listen"):
    """It does not: an `OSError`'s number and text."""

    errno: int
    text: str


class Load(msgspec.Struct, frozen=True, tag="load"):
    """A revision's load."""

    sample: LoadSample


class Released(msgspec.Struct, frozen=True, tag="released"):
    """A draining replica has no call of this edge in flight and gets none."""

    replica: str


class Durations(msgspec.Struct, frozen=True, array_like=True):
    """A histogram's figures."""

    buckets: list[int]
    seconds: float
    exemplars: dict[int, tuple[str, float, float]] | None

    @classmethod
    def of(cls, histogram: Histogram) -> Durations:
        """Return the message that carries `histogram`."""
        return cls(histogram.buckets, histogram.seconds, histogram.exemplars)

    def histogram(self) -> Histogram:
        """Return the histogram that it carries."""
        return Histogram.of(self.buckets, self.seconds, self.exemplars)


class Count(msgspec.Struct, frozen=True):
    """What was added to a function's tally (see `tally`) since the last count."""

    namespace: str
    function: str
    started: int
    completed: int
    cold: int
    by_code: dict[int, Durations]
    waits: Durations | None
    first_bytes: Durations | None = None

    @classmethod
    def of(cls, function: FunctionId, tally: Tally) -> Count:
        """Return the message that carries `tally`."""
        return cls(
            namespace=function.namespace,
            function=function.name,
            started=tally.started,
            completed=tally.completed,
            cold=tally.cold,
            by_code={code: Durations.of(durations) for code, durations in tally.by_code.items()},
            waits=Durations.of(tally.waits) if tally.waits is not None else None,
            first_bytes=Durations.of(tally.first_bytes) if tally.first_bytes is not None else None,
        )

    def tally(self) -> Tally:
        """Return the tally that it carries."""
        tally = Tally()
        tally.started, tally.completed, tally.cold = self.started, self.completed, self.cold
        tally.by_code = {code: durations.histogram() for code, durations in self.by_code.items()}
        tally.waits = self.waits.histogram() if self.waits is not None else None
        tally.first_bytes = self.first_bytes.histogram() if self.first_bytes is not None else None
        return tally


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Calls began or ended, or the edge's own figures changed. Counts in `revisions` are of one, whose name stands for the
    function's."""

    counts: tuple[Count, ...]
    figures: EdgeFigures
    revisions: tuple[Count, ...] = ()


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """The newest of the calls of a function that ended since the last message: see `records`."""

    namespace: str
    function: str
    recent: tuple[CallRecord, ...]
    notable: tuple[CallRecord, ...]


class Want(msgspec.Struct, frozen=True, tag="want"):
    """`calls` calls of the revision could start with as many slots more, the oldest waits since `since` (monotonic
    seconds). Replaces the last one."""

    namespace: str
    revision: str
    calls: int
    since: float


class Return(msgspec.Struct, frozen=True, tag="return"):
    """The edge no longer owns `slots` of those that it was granted."""

    replica: str
    epoch: int
    slots: int


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """An edge owns `slots` of a replica's slots."""

    replica: str
    slots: int


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Everything before the ping of this number has been done."""

    number: int


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """No connection is left, or (`whole` is false) the time was over first."""

    whole: bool


# over a network: hub → member. A member is an edge, or who only follows what edges tell.


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """The first message; see `handshake`. Who names no protocol is of a version that had one only."""

    nonce: bytes
    protocol: int = 1


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The hub knows the secret too, and leads (or did until a moment ago). Now an edge says what it holds."""

    proof: bytes
    leads: bool


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """The beat of this number was heard by who leads, or (`leads` is false) by who did until a moment ago."""

    number: int
    leads: bool


class Relayed(msgspec.Struct, frozen=True, tag="relayed"):
    """What an edge told, for those who follow."""

    edge: str
    told: Load | Counted | Recorded


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """An edge is gone, and its calls with it."""

    edge: str


# over a network: member → hub


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Who answers the challenge: an edge, or (`follows`) one that wants to hear what edges tell."""

    name: str
    follows: bool
    nonce: bytes
    proof: bytes
    protocol: int = 1


class Holding(msgspec.Struct, frozen=True, tag="holding"):
    """What the edge owns, and the draining replicas that it has let go of. From now on it takes part."""

    claims: tuple[Claim, ...]
    released: tuple[str, ...]


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """To be answered."""

    number: int


class Leaving(msgspec.Struct, frozen=True, tag="leaving"):
    """The edge has ended its calls and owns nothing any more."""


ToMember = Challenge | Welcome | Answered | Grant | Recall | Relayed | Gone | Released
FromMember = Hello | Holding | Beat | Leaving | Load | Released | Counted | Recorded | Want | Return

ToEdge = FunctionChanged | FunctionRemoved | ReplicaChanged | Configure | Listen | Grant | Recall | Ping | Drain
FromEdge = Listening | CannotListen | Load | Released | Counted | Recorded | Want | Return | Pong | Drained
