"""Our stream of what the functions do: server-sent events, a picture first and then what changes in it.

The format is the HTML standard's (section 9.2). An event's id names this process and the number of the picture, so that a
reader that comes back with `Last-Event-ID` is told what it missed, or everything where that is not known any more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.operation import Content, Operation, Parameter
from gateway.control.query import FLAG, flag
from gateway.control.streams import LineStream, closing
from gateway.control.wire import NAMESPACE_PATTERN
from gateway.monitor.monitor import Monitor, Update
from gateway.monitor.rows import FunctionRow
from orchestration.names import FunctionId, check_namespace

MEDIA_TYPE: Final = "text/event-stream"
MOST_READERS: Final = 64
LONGEST_S: Final = 3600.0
"""A stream ends after an hour: its reader comes back, and shows its login again."""

QUIET_S: Final = 15.0
RETRY_MS: Final = 2000
LAST_EVENT = "last-event-id"

ONE_NAMESPACE = Parameter(
    "namespace", "Only this namespace; all when it is not given.", {"type": "string", "pattern": NAMESPACE_PATTERN}
)


FOLLOW = Parameter("follow", "Go on until the reader leaves; true unless it says false: then the picture is all.", FLAG)


class FunctionsEvent(msgspec.Struct, frozen=True):
    """The `data` of an event. `state` holds all functions, `change` those whose line changed and those that are gone."""

    at: float
    functions: list[FunctionRow]
    removed: list[FunctionId]


class Events:
    def __init__(self, monitor: Monitor, auth: Auth) -> None:
        self._monitor = monitor
        self._auth = auth
        self._process = secrets.token_hex(4)

    async def read(self, request: Request) -> Response:
        namespace = request.query_params.get("namespace", "")
        if namespace:
            check_namespace(namespace)
        self._auth.authorize(request, "read", namespace)
        if self._monitor.readers >= MOST_READERS:
            raise HTTPException(503, f"{MOST_READERS} readers follow the events already", {"Retry-After": "10"})
        follow = "follow" not in request.query_params or flag(request, "follow")
        since = self._since(request.headers.get(LAST_EVENT, ""))
        return LineStream(self._events(namespace, since, follow), media_type=MEDIA_TYPE)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="followFunctions",
                method="GET",
                path="/api/v1/events",
                endpoint=self.read,
                summary="Follow what all functions do: a picture, then what changes in it, once a second",
                description="Server-sent events `state` and `change`. `Last-Event-ID` goes on after an event.",
                parameters=(ONE_NAMESPACE, FOLLOW),
                success={200: Content("Events as they come.", FunctionsEvent, MEDIA_TYPE)},
                refusals=(400, 503),
            ),
        )

    def _since(self, last_event: str) -> int:
        process, _, number = last_event.partition("-")
        return int(number) if process == self._process and number.isdecimal() and len(number) < 16 else 0

    async def _events(self, namespace: str, since: int, follow: bool) -> AsyncIterator[bytes]:
        ends_at = told_at = time.monotonic()
        ends_at += LONGEST_S
        async with closing(self._monitor.updates(since)) as updates:
            async for update in updates:
                now = time.monotonic()
                if now >= ends_at:
                    return
                if update is not None and (text := self._encoded(update, namespace)):
                    told_at = now
                    yield text
                    if not follow:
                        return
                elif now - told_at >= QUIET_S:  # proxies close connections on which nothing comes
                    told_at = now
                    yield b": quiet\n\n"

    def _encoded(self, update: Update, namespace: str) -> bytes:
        rows = [row for row in update.rows if namespace in ("", row.namespace)]
        removed = [function for function in update.removed if namespace in ("", function.namespace)]
        if not (update.whole or rows or removed):
            return b""
        if update.whole:
            rows = [self._with_recent(row) for row in sorted(rows, key=lambda row: (row.namespace, row.name))]
        data = msgspec.json.encode(FunctionsEvent(round(update.at, 3), rows, removed))
        kind = b"state\nretry: %d" % RETRY_MS if update.whole else b"change"
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._process.encode(), update.number, kind, data)

    def _with_recent(self, row: FunctionRow) -> FunctionRow:
        return msgspec.structs.replace(row, recent=self._monitor.recent(FunctionId(row.namespace, row.name)))
