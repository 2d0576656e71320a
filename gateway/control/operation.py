"""An operation of the API as data: what is served and what the OpenAPI document says are made from the same thing."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Response]]


class Access(enum.Enum):
    """Who may ask: anyone, whoever has the login, or also whoever signed the body with the payload secret, or has a link."""

    OPEN = "open"
    LOGIN = "login"
    SIGNATURE = "signature"
    LINK = "link"


@dataclass(frozen=True)
class Parameter:
    """One value in the path or the query; `schema` is its JSON schema."""

    name: str
    description: str
    schema: Mapping[str, Any]
    where: Literal["query", "path"] = "query"
    required: bool = False


@dataclass(frozen=True)
class Content:
    """A body: `type` is what msgspec makes the schema from, None for bytes or text that have none."""

    description: str
    type: Any = None
    media_type: str = "application/json"
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`method` on `path` is answered by `endpoint`. `refusals` are the statuses of its errors, each one line of text.

    401, 403 (a foreign web page) and 413 follow from the rest and are not listed.
    """

    id: str
    method: str
    path: str
    endpoint: Endpoint
    summary: str
    success: Mapping[int, Content | str]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Content | None = None
    refusals: tuple[int, ...] = ()
    access: Access = Access.LOGIN

    @property
    def statuses(self) -> list[int]:
        """All status codes that this operation answers, in order."""
        implied = [403]
        if self.access is not Access.OPEN:
            implied.append(401)
        if self.body is not None:
            implied.append(413)
        return sorted({*self.success, *self.refusals, *implied})


def routes(operations: Iterable[Operation]) -> list[Route]:
    """Return one route for each path, so that a wrong method is answered with all the right ones in `Allow`."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        methods = by_path.setdefault(operation.path, {})
        assert operation.method not in methods, f"two operations for {operation.method} {operation.path}"
        methods[operation.method] = operation
    return [Route(path, _dispatch(methods), methods=list(methods)) for path, methods in by_path.items()]


def _dispatch(methods: Mapping[str, Operation]) -> Endpoint:
    async def dispatch(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method].endpoint(request)

    return dispatch
