"""What `Orchestrator.watch` yields. They are what an edge needs in order to route calls, and cross process boundaries."""

from __future__ import annotations

import msgspec

from orchestration.function import Function
from orchestration.replica import Replica


class FunctionChanged(msgspec.Struct, frozen=True, tag="function", rename="camel"):
    """The function was deployed, its settings, revisions or traffic changed, or how many replicas it should have was set.

    Carries the whole new state; counts are in `Orchestrator.status`.
    """

    function: Function


class FunctionRemoved(msgspec.Struct, frozen=True, tag="removed", rename="camel"):
    """The function is gone; its calls are answered 404 from now on. Its replicas' own events follow."""

    namespace: str
    name: str


class ReplicaChanged(msgspec.Struct, frozen=True, tag="replica", rename="camel"):
    """A replica entered a state. After `Stopped` its id is never heard of again."""

    replica: Replica


Event = FunctionChanged | FunctionRemoved | ReplicaChanged
