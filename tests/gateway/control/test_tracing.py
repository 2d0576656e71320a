"""Traces of the control API."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Scope

from gateway.control.tracing import TraceRequests
from telemetry.current import Current, current
from telemetry.spans import Record, Span

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
seen: list[Current | None] = []


class Sink:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        self.records.append(record)


async def answer(request: Request) -> Response:
    seen.append(current.get())
    return Response(status_code=503 if request.path_params["name"] == "broken" else 202)


ROUTES: list[BaseRoute] = [Route("/system/function/{name}", answer, methods=["GET", "PUT"])]


async def ask(method: str, name: str = "a", *headers: tuple[bytes, bytes]) -> list[Record]:
    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        """Nobody reads it."""

    sink = Sink()
    seen.clear()
    app = TraceRequests(Starlette(routes=ROUTES), sink, ROUTES)  # type: ignore[arg-type]
    path = f"/system/function/{name}"
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return sink.records


async def test_a_change_has_a_span_and_what_it_sets_going_stands_below() -> None:
    (span,) = await ask("PUT")
    assert isinstance(span, Span)
    assert (span.name, span.kind, span.parent, span.error) == ("PUT /system/function/{name}", "server", "", "")
    assert span.attributes["http.response.status_code"] == 202
    assert seen == [Current(span.trace, span.span)]
    assert current.get() is None


async def test_reading_has_none_unless_its_client_traces_it() -> None:
    assert await ask("GET") == []
    told = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    (span,) = await ask("GET", "a", told)
    assert isinstance(span, Span)
    assert (span.trace, span.parent) == (TRACE, SPAN)
    assert await ask("GET", "a", (b"traceparent", f"00-{TRACE}-{SPAN}-00".encode())) == []
    assert await ask("GET", "a", told, told) == []


async def test_a_failure_is_an_error() -> None:
    (span,) = await ask("PUT", "broken")
    assert isinstance(span, Span)
    assert (span.error, span.attributes["error.type"]) == ("503", "503")
