"""Our route for CloudEvents: taken when they wait, durable, in the queues of all functions that want them."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.asynchronous.calls import Receipt
from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.cloudevents.event import Event, InvalidEvent
from gateway.cloudevents.http_binding import NotUnderstood, read
from gateway.cloudevents.router import Delivery, Router, TooMany
from gateway.control import errors
from gateway.control.auth import Auth
from gateway.control.body import read_bytes
from gateway.control.functions import json
from gateway.control.operation import Content, Operation
from gateway.control.query import NAMESPACE
from gateway.control.wire import namespace_of
from orchestration.orchestrator import NotFound, Orchestrator

BODY_LIMIT_BYTES: Final = 16 << 20
RETRY_AFTER_FULL_S: Final = 10
RETRY_AFTER_BROKEN_S: Final = 5
_LARGE_BYTES: Final = 64 << 10  # see body: from here on reading it would hold up others
_TRACE: Final = ("traceparent", "tracestate")
_LONGEST_TRACE: Final = 512  # as long as tracestate must be passed on (W3C Trace Context section 3.3.1.5)


class Accepted(msgspec.Struct, frozen=True):
    """An event, by its `id` and `source`, and the functions whose queue it waits in; none where no filter matches."""

    id: str
    source: str
    functions: list[Delivery]


class AcceptedEvents(msgspec.Struct, frozen=True):
    """The events of a request, in its order."""

    events: list[Accepted]


class CloudEvents:
    """`router` is None where no asynchronous calls are kept."""

    def __init__(self, orchestrator: Orchestrator, auth: Auth, router: Router | None) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._router = router or Router(_kept_nowhere)

    async def accept(self, request: Request) -> Response:
        namespace = namespace_of(request.query_params.get("namespace"))
        self._auth.authorize(request, "write", namespace)
        if namespace not in (known.name for known in await self._orchestrator.namespaces()):
            raise NotFound(f"there is no namespace {namespace!r}")
        events = await self._events(request)
        traced = [(name, value) for name in _TRACE if 0 < len(value := request.headers.get(name, "")) <= _LONGEST_TRACE]
        try:
            made = await self._router.accept(events, namespace, traced)
        except TooMany as error:
            raise HTTPException(413, str(error)) from None
        except QueueFull as error:
            return errors.text(429, f"no event was taken: {error}", {"Retry-After": str(RETRY_AFTER_FULL_S)})
        except StoreUnavailable as error:
            return errors.text(503, f"no event was taken: {error}", {"Retry-After": str(RETRY_AFTER_BROKEN_S)})
        told = [
            Accepted(e.attributes["id"], e.attributes["source"], functions) for e, functions in zip(events, made, strict=True)
        ]
        return json(AcceptedEvents(told), 202)

    async def _events(self, request: Request) -> list[Event]:
        body = await read_bytes(request, BODY_LIMIT_BYTES)
        headers = request.headers.items()
        try:
            return await asyncio.to_thread(read, headers, body) if len(body) > _LARGE_BYTES else read(headers, body)
        except InvalidEvent as error:
            raise HTTPException(400, str(error)) from None
        except NotUnderstood as error:
            raise HTTPException(415, str(error)) from None

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="sendEvents",
                method="POST",
                path="/events",
                endpoint=self.accept,
                summary="Give CloudEvents to the functions that want them",
                description=(
                    "One event as JSON, one in binary mode (ce- headers, any Content-Type), or a list with Content-Type "
                    "application/cloudevents-batch+json. All of them are taken, or none. Sending them again does nothing twice."
                ),
                parameters=(NAMESPACE,),
                body=Content("The event.", None, "application/cloudevents+json"),
                success={202: Content("They wait, durable, as asynchronous calls.", AcceptedEvents)},
                refusals=(400, 404, 415, 429, 503),
            ),
        )


async def _kept_nowhere(submissions: object) -> list[Receipt]:
    raise StoreUnavailable("asynchronous calls are not kept here")
