"""Requests to the control API, as metrics."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.metrics.requests import CountRequests, Requests
from tests.gateway.metrics.reading import samples


async def answer(request: Request) -> Response:
    if request.path_params["name"] == "broken":
        raise ValueError("broken")
    return Response(status_code=202)


ROUTES = [Route("/system/function/{name}", answer), Route("/metrics", answer)]


async def ask(requests: Requests, path: str, method: str = "GET") -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        """Nobody reads it."""

    app = CountRequests(Starlette(routes=ROUTES), requests, list(ROUTES))
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)


async def test_paths_are_templates() -> None:
    requests = Requests()
    for name in ("a", "b"):
        await ask(requests, f"/system/function/{name}")
    await ask(requests, "/no/such/path")
    await ask(requests, "/system/function/a", "BREW")
    told = samples(requests)
    assert told["http_requests_total", "GET", "/system/function/{name}", "202"] == 2
    assert told["http_requests_total", "GET", "other", "404"] == 1
    assert told["http_requests_total", "other", "/system/function/{name}", "405"] == 1
    assert told["http_request_duration_seconds_count", "GET", "/system/function/{name}", "202"] == 2
    assert told["provider_http_requests_total", "202", "GET", "/system/function/{name}"] == 2
    assert told["provider_http_request_duration_seconds_count", "202", "GET", "/system/function/{name}"] == 2


async def test_only_the_provider_s_routes_are_told_under_its_name() -> None:
    requests = Requests()
    requests.count("GET", "/metrics", 200, 0.1)
    assert not any(name.startswith("provider") for name, *_ in samples(requests))


async def test_a_fault_of_ours_counts_as_500() -> None:
    requests = Requests()
    with pytest.raises(ValueError, match="broken"):
        await ask(requests, "/system/function/broken")
    assert samples(requests)["http_requests_total", "GET", "/system/function/{name}", "500"] == 1


async def test_what_is_no_request_passes() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> Message:
        return {}

    async def nowhere(message: Message) -> None: ...

    await CountRequests(app, Requests(), [])({"type": "lifespan"}, nothing, nowhere)
    assert seen == ["lifespan"]
