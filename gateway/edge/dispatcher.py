"""One revision's calls: which replica gets which, how many at a time, and who waits.

A call that comes gets a free slot on the replica with the fewest calls in flight; when there is none it waits in one
FIFO, also while the revision is at zero. A freed slot goes to the oldest waiting call in the same turn of the event
loop. The queue (`waiting`) is bounded; one more is refused at once. A call whose replica vanished before it was sent returns to
the queue's front. What comes and goes is load, which `telling` tells the scaler.

With several edges a replica's limit is shared (`slots`): `limit` is then what this edge owns of it, which `share` sees
to.

Nothing in this module knows sockets or reads a clock: callers say what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sys import maxsize
from typing import Final, Protocol

from gateway.edge.backend import Backend, Connections
from gateway.edge.load import LoadMeter
from gateway.edge.messages import Return, Want
from gateway.edge.refusal import Refusal
from gateway.edge.share import Share
from gateway.edge.tally import Tally
from gateway.edge.telling import Telling
from gateway.edge.waiting import Waiter, Waiting
from orchestration.load import LoadSample
from orchestration.names import DEFAULT_NAMESPACE
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.starts import Start

SERVED_IN_ONE_TURN: Final = 64
"""A replica that becomes ready takes no more waiting calls than this in one turn of the loop: others run between."""
RETRY_AFTER_BROKEN_S: Final = 10


class Observer(Protocol):
    """Whom a dispatcher tells. `soon` runs a function in the next turn of the loop; who is `stirred` wants to be ticked
    until it is `quiet` again, so that idle functions cost nothing."""

    def on_load(self, sample: LoadSample) -> None: ...
    def on_released(self, replica_id: str) -> None: ...
    def stirred(self, dispatcher: Dispatcher) -> None: ...
    def soon(self, function: Callable[[], object]) -> object: ...
    def now(self) -> float: ...
    def connections(self, endpoint: Endpoint) -> Connections: ...


class Dispatcher:
    """Calls of the revision `revision` of `name` in `namespace`; `concurrency` per replica, 0 for no limit."""

    def __init__(
        self,
        namespace: str,
        name: str,
        revision: str,
        observer: Observer,
        *,
        edge: str = "edge",
        concurrency: int = 0,
        timeout_s: float = 60.0,
        queue_calls: int = 10_000,
        queue_bytes: int = 64 * 1024 * 1024,
        streams: bool = False,
        tell_slots: Callable[[Want | Return], None] | None = None,
    ) -> None:
        self.namespace, self.name, self.revision = namespace, name, revision
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.streams = streams
        """The timeout ends with the first response byte (the control API's logs stream for hours)."""
        self.in_flight = 0
        self.queue = Waiting(f"{name}.{namespace}", queue_calls, queue_bytes)
        self.waiting = self.queue.calls
        self.meter = LoadMeter(observer.now())
        self.broken = False
        """No replica runs, and those there are end by themselves."""
        self.share = Share(self, tell_slots, observer.soon) if tell_slots is not None else None
        """What this edge owns where it is one of several; None where it is the only one."""
        self.counted: Tally | None = None
        """Calls of this revision, by how long its replicas had them; None while its function has no other that is called."""
        self._observer = observer
        self._telling = Telling(self, observer, edge)
        self._ready: list[Backend] = []
        self._resting: list[Backend] = []
        self._short: list[Backend] = []
        self._backends: dict[str, Backend] = {}
        self._replicas: dict[str, Replica] = {}
        self._active = False
        self._serving = False

    def configure(self, *, timeout_s: float, concurrency: int) -> None:
        """Take a revision's settings, when its replicas were heard of before it."""
        self.timeout_s = timeout_s
        if concurrency != self.concurrency:
            if self.concurrency and self.share is not None:
                self.share.give_back()
            self.concurrency = concurrency
            for backend in self._backends.values():
                backend.own(self._slots(backend.id))
            self.serve()

    # a call comes, and goes

    def admit(self, waiter: Waiter, now: float) -> None:
        """A call came: start it, let it wait, or refuse it."""
        if not self._active:
            self._active = True
            self.meter.begin(now)
            self._observer.stirred(self)
            self._telling.soon()
        self.meter.arrived(now)
        if not self.waiting and (backend := self._least_loaded()) is not None:
            self._start(waiter, backend)
            return
        if (refusal := self._full(waiter)) is not None:
            self.meter.left(now)
            waiter.refuse(refusal)
            return
        self.queue.add(waiter, cold=not (self._ready or self._resting))
        self._telling.waits(now)
        if self.share is not None:
            self.share.look()

    def release(self, backend: Backend, now: float) -> None:
        """A call that was sent to `backend` ended. The slot goes to the oldest waiting call at once."""
        self.meter.left(now)
        self._free(backend)

    def put_back(self, waiter: Waiter, backend: Backend) -> None:
        """A call that has a slot on `backend` was not served there: it waits again, before all others."""
        self.queue.add_first(waiter)
        if self.broken:
            self._refuse_waiting()
        self._free(backend)

    def turned_away(self, waiter: Waiter, backend: Backend, now: float) -> None:
        """The replica's runtime refused a call that has a slot on `backend`: it waits again, before all others.

        So the replica is busier than known: with calls whose client left, or whose edge died. The slots that seem free
        rest for a moment.
        """
        backend.turned_away(now)
        if backend not in self._short:
            self._short.append(backend)
        self.put_back(waiter, backend)

    def leave(self, waiter: Waiter, now: float) -> None:
        """A waiting call gave up (its client left, or it waited too long)."""
        self.queue.remove(waiter)
        self.meter.left(now)
        if self.share is not None:
            self.share.look()

    def grew(self, waiter: Waiter, size: int) -> None:
        """A waiting call holds `size` bytes more; it is refused when all of them together hold too much."""
        if not self.queue.grew(size):
            self.leave(waiter, self._observer.now())
            waiter.refuse(self.queue.full())

    def evict(self, now: float) -> list[Waiter]:
        """Let go of all waiting calls and return them, oldest first."""
        waiters = list(self.waiting)
        for waiter in waiters:
            self.leave(waiter, now)
        return waiters

    # replicas come, drain, fail and go

    def replica_changed(self, replica: Replica) -> None:
        """Follow a replica into its new state."""
        known = self._backends.get(replica.id)
        if replica.state is ReplicaState.STOPPED:
            self._replicas.pop(replica.id, None)
            if self.share is not None:
                self.share.gone(replica.id)
        else:
            self._replicas[replica.id] = replica
        if replica.state is ReplicaState.RUNNING and replica.endpoint is not None:
            if known is not None and known.endpoint == replica.endpoint:
                self._reopen(known)
            else:
                self._close(replica.id)
                self._open(replica.id, replica.endpoint)
        elif replica.state is ReplicaState.DRAINING:
            self._drain(replica.id, known)
        else:
            self._close(replica.id)
        self._judge()

    def rest(self, backend: Backend, now: float) -> None:
        """`backend` could not be connected to: it gets nothing for a moment (0.1 s, doubling to 1 s)."""
        backend.unreachable(now)
        if backend in self._ready:
            self._ready.remove(backend)
            self._resting.append(backend)

    def reachable(self, backend: Backend) -> None:
        """`backend` was connected to."""
        backend.rest_s = 0.0

    # time passes

    def sweep(self, now: float) -> None:
        """Four times a second: tell of calls that still wait, give backends and slots whose rest is over another chance."""
        if self.waiting:
            self._telling.tell(now)
        if not self._resting and not self._short:
            return
        self._ready += [b for b in self._resting if b.rested_at <= now]
        self._resting = [b for b in self._resting if b.rested_at > now]
        for backend in self._short:
            if backend.rested_at <= now:
                backend.limit = backend.slots
        self._short = [b for b in self._short if b.rested_at > now]
        self._serve_on()

    def tick(self, now: float) -> None:
        """Each second: tell the load of a revision with activity. The last sample of an active time says so: all zero."""
        if not self._active:
            return
        sample = self._telling.tell(now)
        if sample.arrivals == 0 and sample.concurrency == 0.0 and self.meter.level == 0:
            self._active = False

    def prune(self, unused_since: float) -> None:
        """Close connections that were not used since that time."""
        for backend in self._backends.values():
            backend.connections.prune(unused_since)

    @property
    def ready(self) -> int:
        """How many replicas may get calls now."""
        return len(self._ready)

    def oldest_wait_s(self, now: float) -> float:
        """For how long the call at the queue's front has waited; 0 when none does."""
        return self.queue.oldest_s(now)

    @property
    def quiet(self) -> bool:
        """Nothing would happen at the next tick."""
        return not (self._active or self._resting or self._short) and not any(
            b.connections.unused for b in self._backends.values()
        )

    def backend(self, replica_id: str) -> Backend | None:
        """Return the replica's backend, if it was ready and is not done with."""
        return self._backends.get(replica_id)

    def backends(self) -> Iterable[Backend]:
        """Return those of `backend`."""
        return self._backends.values()

    def start_of(self, replica_id: str) -> Start | None:
        """Return what the replica's start took, while that is known."""
        replica = self._replicas.get(replica_id)
        return replica.start if replica is not None else None

    def replica(self, replica_id: str) -> Replica | None:
        """Return what was last told of a replica that has not stopped."""
        return self._replicas.get(replica_id)

    def open_backends(self) -> list[Backend]:
        """Return the replicas that may get calls now."""
        return self._ready

    @property
    def forgettable(self) -> bool:
        """No replica, no call, no slot: nothing would be lost with this dispatcher."""
        owns = self.share is not None and self.share.owns
        return not (self._replicas or self.waiting or self.in_flight or owns)

    def close(self) -> None:
        """Let go of every replica."""
        for replica_id in list(self._backends):
            self._close(replica_id)

    # inside

    def _least_loaded(self) -> Backend | None:
        best, fewest = None, maxsize
        for backend in self._ready:
            in_flight = backend.in_flight
            if in_flight < fewest and in_flight < backend.limit:
                if not in_flight:
                    return backend
                best, fewest = backend, in_flight
        return best

    def _start(self, waiter: Waiter, backend: Backend) -> None:
        backend.in_flight += 1
        self.in_flight += 1
        waiter.start(backend)

    def _free(self, backend: Backend) -> None:
        backend.in_flight -= 1
        self.in_flight -= 1
        if self.share is not None and self.share.asked:
            self.share.give()
        if self.waiting:
            self.serve()
        if not backend.open and not backend.in_flight and self._backends.get(backend.id) is backend:
            self._released(backend.id)

    def serve(self) -> None:
        """Give free slots to the calls that wait."""
        now = self._observer.now() if self.waiting else 0.0  # read before a slot is looked for: see `tenure.watched`
        for _ in range(SERVED_IN_ONE_TURN):
            if not self.waiting or (backend := self._least_loaded()) is None:
                if self.share is not None:
                    self.share.look()
                return
            waiter, cold = self.queue.take()
            waiter.waited(now, cold)
            self._start(waiter, backend)
        if self.waiting and not self._serving:
            self._serving = True
            self._observer.soon(self._serve_on)

    def _serve_on(self) -> None:
        self._serving = False
        self.serve()
        if self.share is not None:
            self.share.give()

    def _full(self, waiter: Waiter) -> Refusal | None:
        if self.broken:
            return self._cannot_run()
        return None if self.queue.has_room(waiter) else self.queue.full()

    def _cannot_run(self) -> Refusal:
        # Callers may be anybody: why (a line of code, a path) is for those with a login.
        address = self.name if self.namespace == DEFAULT_NAMESPACE else f"{self.name}.{self.namespace}"
        text = f"function {self.queue.function} cannot run; faas describe {address} and faas logs {address} say why"
        return Refusal(503, text, retry_after_s=RETRY_AFTER_BROKEN_S)

    def _refuse_waiting(self) -> None:
        for waiter in self.evict(self._observer.now()):
            waiter.refuse(self._cannot_run())

    def _judge(self) -> None:
        states = {replica.state for replica in self._replicas.values()}
        self.broken = False
        if ReplicaState.CRASH_LOOP in states and not states & {ReplicaState.RUNNING, ReplicaState.PENDING}:
            self.broken = True
            self._refuse_waiting()

    def _open(self, replica_id: str, endpoint: Endpoint) -> None:
        backend = Backend(replica_id, endpoint, self._slots(replica_id), self._observer.connections(endpoint))
        self._backends[replica_id] = backend
        self._ready.append(backend)
        self.serve()

    def _reopen(self, backend: Backend) -> None:
        """It drains no more: the calls that it still has count."""
        if not backend.open:
            backend.open = True
            backend.connections = self._observer.connections(backend.endpoint)
            self._ready.append(backend)
            self.serve()

    def _slots(self, replica_id: str) -> int:
        """Return how many calls a replica may have from this edge."""
        if not self.concurrency:
            return maxsize
        return self.concurrency if self.share is None else self.share.slots(replica_id)

    def _drain(self, replica_id: str, backend: Backend | None) -> None:
        if backend is None:
            self._observer.on_released(replica_id)
            return
        self._shut(backend)  # may end its last calls, and release it by that
        if not backend.in_flight and replica_id in self._backends:
            self._released(replica_id)

    def _close(self, replica_id: str) -> None:
        if (backend := self._backends.pop(replica_id, None)) is not None:
            self._shut(backend)

    def _shut(self, backend: Backend) -> None:
        if backend.open:
            backend.open = False
            for group in (self._ready, self._resting, self._short):
                if backend in group:
                    group.remove(backend)
            backend.connections.retire()

    def _released(self, replica_id: str) -> None:
        del self._backends[replica_id]
        self._observer.on_released(replica_id)
