"""Our route for CloudEvents: taken when they wait, durable, in the queues of all functions that want them."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.asynchronous.calls import Receipt
from gateway.asynchronous.pace import UNKNOWN_S
from gateway.asynchronous.refusals import RETRY_AFTER_BROKEN_S
from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.cloudevents.event import Event, InvalidEvent
from gateway.cloudevents.http_binding import NotUnderstood, read
from gateway.cloudevents.router import Delivery, Router, TooMany
from gateway.control import errors
from gateway.control.auth import Action, Auth
from gateway.control.body import read_bytes
from gateway.control.functions import json
from gateway.control.operation import Content, Operation
from gateway.control.query import NAMESPACE
from gateway.control.wire import namespace_of
from orchestration.orchestrator import NotFound, Orchestrator

BODY_LIMIT_BYTES: Final = 16 << 20
ORIGIN: Final = "WebHook-Request-Origin"
_DNS_EXPRESSION: Final = re.compile(r"[A-Za-z0-9*_.:-]{1,253}", re.ASCII)
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


class Wanting(msgspec.Struct, frozen=True):
    """A function that wants an event."""

    function: str
    namespace: str


class Matched(msgspec.Struct, frozen=True):
    """An event, by its `id` and `source`, and the functions whose filter matches it."""

    id: str
    source: str
    functions: list[Wanting]


class MatchedEvents(msgspec.Struct, frozen=True):
    """The events of a request, in its order."""

    events: list[Matched]


class CloudEvents:
    """`router` is None where no asynchronous calls are kept."""

    def __init__(self, orchestrator: Orchestrator, auth: Auth, router: Router | None) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._router = router or Router(_kept_nowhere)

    async def accept(self, request: Request) -> Response:
        namespace = await self._namespace(request, "write")
        events = await self._events(request)
        traced = [(name, value) for name in _TRACE if 0 < len(value := request.headers.get(name, "")) <= _LONGEST_TRACE]
        try:
            made = await self._router.accept(events, namespace, traced)
        except TooMany as error:
            raise HTTPException(413, str(error)) from None
        except QueueFull as error:
            return errors.text(429, f"no event was taken: {error}", {"Retry-After": str(UNKNOWN_S)})
        except StoreUnavailable as error:
            return errors.text(503, f"no event was taken: {error}", {"Retry-After": str(RETRY_AFTER_BROKEN_S)})
        told = [
            Accepted(e.attributes["id"], e.attributes["source"], functions) for e, functions in zip(events, made, strict=True)
        ]
        return json(AcceptedEvents(told), 202)

    async def match(self, request: Request) -> Response:
        namespace = await self._namespace(request, "read")
        events = await self._events(request)
        told = [
            Matched(
                event.attributes["id"],
                event.attributes["source"],
                [Wanting(one.name, one.namespace) for one in self._router.wanting(event, namespace)],
            )
            for event in events
        ]
        return json(MatchedEvents(told))

    async def consent(self, request: Request) -> Response:
        """Answer a sender that asks whether it may send (HTTP Webhook 1.0.2, section 4): whoever has the login may."""
        self._auth.authorize(request, "write", "")
        headers = {"Allow": "OPTIONS, POST"}
        if origin := request.headers.get(ORIGIN):
            if not _DNS_EXPRESSION.fullmatch(origin):
                raise HTTPException(400, f"{ORIGIN} must be a name such as eventemitter.example.com")
            headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
        return Response(headers=headers)

    async def _namespace(self, request: Request, action: Action) -> str:
        namespace = namespace_of(request.query_params.get("namespace"))
        self._auth.authorize(request, action, namespace)
        if namespace not in (known.name for known in await self._orchestrator.namespaces()):
            raise NotFound(f"there is no namespace {namespace!r}")
        return namespace

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
            Operation(
                id="allowEvents",
                method="OPTIONS",
                path="/events",
                endpoint=self.consent,
                summary="Say that a sender of events may send them",
                description=(
                    "The handshake of CloudEvents' HTTP webhooks: `WebHook-Request-Origin` is answered with "
                    "`WebHook-Allowed-Origin` and `WebHook-Allowed-Rate: *`."
                ),
                success={200: "It may, where it has asked."},
                refusals=(400,),
            ),
            Operation(
                id="matchEvents",
                method="POST",
                path="/events/match",
                endpoint=self.match,
                summary="Tell which functions would get CloudEvents",
                description="The same request as `POST /events`, of which nothing is kept and nobody is called.",
                parameters=(NAMESPACE,),
                body=Content("The event.", None, "application/cloudevents+json"),
                success={200: Content("Who wants them.", MatchedEvents)},
                refusals=(400, 404, 415),
            ),
        )


async def _kept_nowhere(submissions: object) -> list[Receipt]:
    raise StoreUnavailable("asynchronous calls are not kept here")
