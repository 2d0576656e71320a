"""The model tells what the real dispatcher tells: both are driven with the same calls and replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.simulator.edge import NAMESPACE, EdgeModel
from autoscaler.simulator.edge import Replica as ModelReplica
from gateway.edge.backend import Backend, Connections
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.refusal import Refusal
from orchestration.load import LoadSample
from orchestration.replica import Endpoint, Replica, ReplicaState


class NoConnections:
    unused = 0

    def retire(self) -> None:
        pass


class Call:
    """A call of the real dispatcher; `backend` is where it runs."""

    held = 0

    def __init__(self, real: Real, started: float) -> None:
        self.real = real
        self.started = started

    def waited(self, now: float, cold: bool) -> None:
        """Nothing is counted here."""

    def start(self, backend: Backend) -> None:
        self.real.running.append((self, backend))

    def refuse(self, refusal: Refusal) -> None:
        self.real.refused += 1


class Real:
    """A dispatcher, and what it does."""

    def __init__(self, limit: int, queue_calls: int) -> None:
        self.time = 0.0
        self.samples: list[LoadSample] = []
        self.running: list[tuple[Call, Backend]] = []
        self.refused = 0
        self.replicas: dict[str, Replica] = {}
        self._soon: list[Callable[[], object]] = []
        self.dispatcher = Dispatcher(NAMESPACE, "f", "f", self, edge="simulated", concurrency=limit, queue_calls=queue_calls)

    def on_load(self, sample: LoadSample) -> None:
        self.samples.append(sample)

    def on_released(self, replica_id: str) -> None:
        pass

    def stirred(self, dispatcher: Dispatcher) -> None:
        pass

    def soon(self, function: Callable[[], object]) -> object:
        self._soon.append(function)
        return None

    def now(self) -> float:
        return self.time

    def connections(self, endpoint: Endpoint) -> Connections:
        return cast("Connections", NoConnections())

    def turn(self) -> None:
        while self._soon:
            self._soon.pop(0)()

    def open(self, identity: str) -> None:
        replica = Replica(
            id=identity,
            namespace=NAMESPACE,
            function="f",
            revision="f",
            state=ReplicaState.RUNNING,
            endpoint=Endpoint(unix=f"/{identity}"),
        )
        self.replicas[identity] = replica
        self.dispatcher.replica_changed(replica)

    def drain(self, identity: str) -> None:
        self.dispatcher.replica_changed(msgspec.structs.replace(self.replicas.pop(identity), state=ReplicaState.DRAINING))


class Modelled:
    """The model, driven alike."""

    def __init__(self, limit: int, queue_calls: int) -> None:
        self.model = EdgeModel("f", limit, queue_calls, 0.0)
        self.samples: list[LoadSample] = []
        self.running: list[ModelReplica] = []
        self.refused = 0

    def take(self) -> None:
        self.running += [replica for _, _, replica in self.model.started]
        self.model.started.clear()


steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.03, 0.25, 1.0]),
        st.sampled_from(["call", "call", "call", "end", "end", "open", "drain", "leave", "sweep", "tick"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(steps=steps, limit=st.integers(0, 3), queue_calls=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_the_model_tells_what_the_dispatcher_tells(steps: list[tuple[float, str, int]], limit: int, queue_calls: int) -> None:
    real, modelled = Real(limit, queue_calls), Modelled(limit, queue_calls)
    dispatcher, model = real.dispatcher, modelled.model
    made = 0
    for passes_s, step, which in [*steps, (1.0, "tick", 0), (1.0, "tick", 0)]:
        if passes_s:  # before time goes on, the turn of the loop ends
            real.turn()
            if model.telling:
                modelled.samples.append(model.tell(real.time))
            real.time += passes_s
        now = real.time
        if step == "call":
            dispatcher.admit(Call(real, now), now)
            modelled.refused += not model.admit(now, 1.0)
        elif step == "end" and real.running:
            i = which % len(real.running)
            dispatcher.release(real.running.pop(i)[1], now)
            model.released(modelled.running.pop(i), now)
        elif step == "open":
            made += 1
            real.open(str(made))
            model.opened(ModelReplica(str(made), now, now))
        elif step == "drain" and model.ready:
            replica = model.ready[which % len(model.ready)]
            real.drain(replica.id)
            model.shut(replica)
        elif step == "leave" and dispatcher.waiting:
            dispatcher.leave(next(iter(dispatcher.waiting)), now)
            model.expire(now)
        elif step == "sweep":
            real.turn()
            if model.telling:
                modelled.samples.append(model.tell(now))
            dispatcher.sweep(now)
            if model.waiting:
                modelled.samples.append(model.tell(now))
        elif step == "tick":
            real.turn()
            if model.telling:
                modelled.samples.append(model.tell(now))
            dispatcher.tick(now)
            if model.active:
                modelled.samples.append(model.tick(now))
        modelled.take()
        assert [b.id for _, b in real.running] == [r.id for r in modelled.running]
        assert len(dispatcher.waiting) == len(model.waiting)
        assert real.refused == modelled.refused
    assert modelled.samples == real.samples
