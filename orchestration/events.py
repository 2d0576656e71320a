"""What `Orchestrator.watch` yields. They are what an edge needs in order to route calls, and cross process boundaries."""

from __future__ import annotations

import msgspec

from orchestration.function import Function
from orchestration.replica import Replica


class FunctionChanged(msgspec.Struct, frozen=True, tag="function", rename="camel"):
    """The function was deployed, or its settings, revisions or traffic changed. Carries the whole new state."""

    function: Function


class FunctionRemoved(msgspec.Struct, frozen=True, tag="removed", rename="camel"):
    """The function is gone; its calls are answered 404 from now on. Its replicas' own events follow."""

    namespace: str
    name: str


class ReplicaChanged(msgspec.Struct, frozen=True, tag="replica", rename="camel"):
    """A replica entered a state. After `Stopped` its id is never heard of again."""

    replica: Replica


Event = FunctionChanged | FunctionRemoved | ReplicaChanged
