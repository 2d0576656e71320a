"""What goes wrong, as an answer: the status that says whose turn it is, and one line of text that says why."""

from __future__ import annotations

import errno
import math
from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from builder.admission import BuilderBusy
from gateway.asynchronous.store import StoreUnavailable
from orchestration.bundle import UnknownBundle
from orchestration.duration import InvalidDuration
from orchestration.names import InvalidName
from orchestration.orchestrator import AlreadyExists, NotFound, NotNow, Refused, Unavailable
from orchestration.quantity import InvalidQuantity
from orchestration.rollout import NothingToMove, Outdated
from orchestration.settings import InvalidSetting
from orchestration.traffic import InvalidTraffic

BUSY_RETRY_S = 5
"""When a client may come back to a builder that was busy: builds take seconds."""

LONGEST_TEXT = 1000
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
_STATUS: Mapping[type[Exception], int] = {
    InvalidName: 400,
    InvalidSetting: 400,
    InvalidQuantity: 400,
    InvalidDuration: 400,
    UnknownBundle: 400,
    ClientDisconnect: 400,
    InvalidTraffic: 400,
    NotFound: 404,
    AlreadyExists: 409,
    NothingToMove: 409,
    Outdated: 412,
    Unavailable: 507,
    StoreUnavailable: 503,
}

Handler = Callable[[Request, Exception], Awaitable[Response]]


def text(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error answer: `reason` as one printable line."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(reason.split()))[:LONGEST_TEXT]
    return PlainTextResponse(line.encode("utf-8", "replace") + b"\n", status, headers)


def unknown(headers: Headers) -> Response:
    """Return the answer to who is not known, to the letter as OpenFaaS gives it.

    Only a browser is not asked for basic authentication: it would add the login to the requests of all pages of this origin
    from then on, and pages of functions are among them (see `session`).
    """
    challenge = "Bearer" if "sec-fetch-mode" in headers else 'Basic realm="Restricted"'
    return PlainTextResponse("invalid credentials", 401, {"WWW-Authenticate": challenge})


def handlers() -> dict[int | type[Exception], Handler]:
    """Return what answers each exception that an endpoint may raise."""

    def answer(status: int) -> Handler:
        async def with_status(request: Request, error: Exception) -> Response:
            return text(status, str(error) or type(error).__name__)

        return with_status

    by_type: dict[int | type[Exception], Handler] = {kind: answer(status) for kind, status in _STATUS.items()}
    return by_type | {
        HTTPException: _http,
        Refused: _refused,
        BuilderBusy: _busy,
        NotNow: _not_now,
        OSError: _disk,
        Exception: _internal,
    }


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 401:
        return unknown(request.headers)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return text(405, f"{request.method} is not allowed on {request.url.path}; allowed: {allowed}", error.headers)
    if error.status_code == 404 and error.detail == "Not Found":
        return text(404, f"nothing is at {request.url.path}")
    return text(error.status_code, error.detail, error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    """400 for a deploy that names what is not here, as OpenFaaS answers; 409 for taking away what is still in use."""
    return text(409 if request.method == "DELETE" else 400, str(error))


async def _busy(request: Request, error: Exception) -> Response:
    return text(429, str(error), {"Retry-After": str(BUSY_RETRY_S)})


async def _not_now(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotNow)
    return text(503, str(error), {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))})


async def _disk(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in _OUT_OF_SPACE:
        return text(507, "the gateway's disk is full")
    raise error


async def _internal(request: Request, error: Exception) -> Response:
    """Tell nothing of what happened inside: the platform's log has the traceback."""
    return text(500, "internal error; the platform's log says more")
