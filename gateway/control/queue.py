"""Our routes for asynchronous calls, beyond what everyone may do with a call whose id they know: queues, lists, replays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.asynchronous.calls import State, queue_of
from gateway.asynchronous.store import Store
from gateway.asynchronous.told import ToldCall, told
from gateway.control.auth import Auth
from gateway.control.functions import json
from gateway.control.operation import Content, Operation, Parameter
from gateway.control.query import CALL_ID, NAME, NAMESPACE, integer
from gateway.control.wire import NAMESPACE_PATTERN, namespace_of
from orchestration.names import DEFAULT_NAMESPACE, FunctionId, check_namespace, parse_function_id
from orchestration.orchestrator import Orchestrator

MOST_LISTED: Final = 1000
LISTED: Final = 100
LONGEST_ID: Final = 128
REPLAYED_AT_ONCE: Final = 1000

FUNCTION = Parameter(
    "name",
    "Only calls of this function, as NAME or NAME.NAMESPACE; with #callback behind it, its callbacks.",
    {"type": "string"},
)
OF_NAMESPACE = Parameter(
    "namespace", "The namespace of the function that `name` says.", {"type": "string", "pattern": NAMESPACE_PATTERN}
)
STATE = Parameter("state", "Only calls in this state.", {"type": "string", "enum": [*State]})
LIMIT = Parameter(
    "limit", f"At most so many; {LISTED} when it is not given.", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}
)
BEFORE = Parameter(
    "before", "Go on behind the call of this id, the last one of the page before.", {"type": "string", "maxLength": LONGEST_ID}
)


class QueueRow(msgspec.Struct, frozen=True, rename="camel"):
    """One queue: how many calls wait, run and are dead, how many bytes the open ones hold, and for how long the oldest one that
    is due has been due (0: none is)."""

    queue: str
    name: str
    namespace: str
    waiting: int
    running: int
    dead: int
    bytes: int
    late_s: float


class CallPage(msgspec.Struct, frozen=True):
    """Calls, the newest first. `next` is to be given as `before` for those that follow; empty where there are none."""

    calls: list[ToldCall]
    next: str


class Replayed(msgspec.Struct, frozen=True):
    """How many dead calls wait again."""

    replayed: int


class Queue:
    def __init__(self, store: Store, orchestrator: Orchestrator, auth: Auth, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._orchestrator = orchestrator
        self._auth = auth
        self._clock = clock

    async def queues(self, request: Request) -> Response:
        self._auth.authorize(request, "read", "")
        now = self._clock()
        rows = []
        for queue, depth in sorted((await self._store.depths(now)).items()):
            function = parse_function_id(queue.partition("#")[0])
            late_s = round(now - depth.oldest_due, 3) if depth.oldest_due else 0.0
            rows.append(
                QueueRow(
                    queue, function.name, function.namespace, depth.waiting, depth.running, depth.dead, depth.bytes, late_s
                )
            )
        return json(rows)

    async def calls(self, request: Request) -> Response:
        name, namespace = request.query_params.get("name", ""), request.query_params.get("namespace", "")
        if namespace:
            check_namespace(namespace)
        self._auth.authorize(request, "read", namespace)
        queue = _line(name, namespace or DEFAULT_NAMESPACE)[1] if name else None
        limit = integer(request, "limit", 1) or LISTED
        if limit > MOST_LISTED:
            raise HTTPException(400, f"limit={limit}: at most {MOST_LISTED}")
        before = request.query_params.get("before", "")
        if len(before) > LONGEST_ID:
            raise HTTPException(400, f"before={before[:40]!r}…: the id of a call")
        found = await self._store.page(queue, self._states(request), limit, before)
        return json(CallPage([told(call) for call in found], found[-1].id if len(found) == limit else ""))

    async def replay(self, request: Request) -> Response:
        call_id = request.path_params["call_id"]
        call = await self._store.get(call_id)
        self._auth.authorize(request, "write", call.function.namespace if call is not None else "")
        state = await self._store.replay(call_id, self._clock())
        if state is None:
            raise HTTPException(404, f"call {call_id[:64]!r} is not known (any more)")
        if state is not State.DEAD:
            raise HTTPException(409, f"call {call_id[:64]!r} is not dead: it is {state}")
        return json(Replayed(1), 202)

    async def replay_all(self, request: Request) -> Response:
        function, queue = _line(request.path_params["name"], namespace_of(request.query_params.get("namespace")))
        self._auth.authorize(request, "write", function.namespace)
        replayed = 0
        dead = (await self._store.depths(self._clock())).get(queue)
        if dead is None:
            self._orchestrator.status(function)  # raises NotFound
        left = dead.dead if dead is not None else 0  # those that die again in the meantime are not meant
        while left > 0:
            some = await self._store.replay_all(queue, self._clock(), min(left, REPLAYED_AT_ONCE))
            if not some:
                break
            replayed += some
            left -= some
        return json(Replayed(replayed), 202)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="listQueues",
                method="GET",
                path="/api/v1/async/queues",
                endpoint=self.queues,
                summary="List the queues of asynchronous calls that hold a waiting, running or dead one",
                success={200: Content("By name.", list[QueueRow])},
                refusals=(503,),
            ),
            Operation(
                id="listAsyncCalls",
                method="GET",
                path="/api/v1/async/calls",
                endpoint=self.calls,
                summary="List asynchronous calls, the newest first",
                description="Bodies are not included: each call is read whole at `/async-function/ID`.",
                parameters=(FUNCTION, OF_NAMESPACE, STATE, LIMIT, BEFORE),
                success={200: Content("A page of them.", CallPage)},
                refusals=(400, 503),
            ),
            Operation(
                id="replayAsyncCall",
                method="POST",
                path="/api/v1/async/calls/{call_id}/replay",
                endpoint=self.replay,
                summary="Let a dead call wait again, with all its attempts",
                parameters=(CALL_ID,),
                success={202: Content("It waits.", Replayed)},
                refusals=(404, 409, 503),
            ),
            Operation(
                id="replayDeadCalls",
                method="POST",
                path="/api/v1/functions/{name}/replay",
                endpoint=self.replay_all,
                summary="Let all dead calls of a function wait again",
                parameters=(NAME, NAMESPACE),
                success={202: Content("How many.", Replayed)},
                refusals=(400, 404, 503),
            ),
        )

    @staticmethod
    def _states(request: Request) -> list[State]:
        text = request.query_params.get("state", "")
        if not text:
            return []
        try:
            return [State(text)]
        except ValueError:
            raise HTTPException(400, f"state={text[:40]!r}: one of {', '.join(State)}") from None


def _line(name: str, namespace: str) -> tuple[FunctionId, str]:
    """Return the function that `NAME` or `NAME.NAMESPACE` is, and its queue; `NAME#callback` is that of its callbacks."""
    bare, mark, kind = name.partition("#")
    function = parse_function_id(bare, namespace)
    return function, f"{queue_of(function)}{mark}{kind}"
