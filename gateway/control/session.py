"""Logins of pages: who has the login gets a token that is good for half a day, so that no page needs to keep a password.

The token goes into `Authorization: Bearer`, which a page must add itself. Basic authentication by the browser, and cookies,
would be added by the browser to every request of every page of this origin, and functions' own pages (`/function/…`) are of
this origin: with them, whoever can deploy a function, or put a script into a function's page, could do what the person who
looks at it may. So the API asks browsers for nothing and sets no cookie, and requests forged by other sites carry no login.
"""

from __future__ import annotations

import time

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import LINK_S, SESSION_S, Auth, TokenKind
from gateway.control.functions import json
from gateway.control.operation import Access, Content, Operation, Parameter
from gateway.control.query import FLAG, flag

LINK = Parameter(
    "link",
    f"Give a token that is good for {LINK_S:.0f} s and only for getting a session: a browser may have it in an address.",
    FLAG,
)


class Session(msgspec.Struct, frozen=True, rename="camel"):
    """`token` is for `Authorization: Bearer TOKEN`, until `expiresAt` (Unix seconds). It is empty where nobody asks for one."""

    token: str
    expires_at: int


class Sessions:
    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    async def create(self, request: Request) -> Response:
        """Give a token to who has the login, or a link's token; a session cannot be made longer with itself."""
        link = flag(request, "link")
        if not self._auth.may_begin_session(request.headers, time.time()):
            raise HTTPException(401)
        kind, length_s = (TokenKind.LINK, LINK_S) if link else (TokenKind.SESSION, SESSION_S)
        expires_at = int(time.time() + length_s)
        return json(Session(self._auth.token(kind, expires_at), expires_at), 201)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="createSession",
                method="POST",
                path="/api/v1/session",
                endpoint=self.create,
                summary="Get a token instead of the login, good for 12 hours",
                parameters=(LINK,),
                success={201: Content("The token.", Session)},
                refusals=(400,),
                access=Access.LINK,
            ),
        )
