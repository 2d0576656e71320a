from __future__ import annotations

import time

import pytest
from starlette.datastructures import Headers

from gateway.control.auth import Auth, Login, TokenKind
from tests.gateway.control.client import Client, basic
from tests.gateway.control.conftest import Application, serving

SECRET = b"payload secret"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_stands_for_the_login(client: Client) -> None:
    session = (await client("POST", "/api/v1/session")).json()
    assert session["expiresAt"] == pytest.approx(time.time() + 12 * 3600, abs=5)
    assert (await client("GET", "/system/functions", headers=bearer(session["token"]))).status == 200
    assert (await client("GET", "/system/functions", headers=bearer(session["token"] + "0"))).status == 401


async def test_a_session_begins_with_the_login_or_a_link_but_not_with_a_session(client: Client) -> None:
    assert (await client("POST", "/api/v1/session", login=False)).status == 401
    assert (await client("POST", "/api/v1/session", headers={"Authorization": basic("admin", "wrong")})).status == 401
    session = (await client("POST", "/api/v1/session")).json()["token"]
    assert (await client("POST", "/api/v1/session", headers=bearer(session))).status == 401
    link = (await client("POST", "/api/v1/session?link=true")).json()
    assert link["expiresAt"] <= time.time() + 61
    assert (await client("GET", "/system/functions", headers=bearer(link["token"]))).status == 401
    begun = await client("POST", "/api/v1/session", headers=bearer(link["token"]))
    assert begun.status == 201
    assert (await client("GET", "/system/functions", headers=bearer(begun.json()["token"]))).status == 200
    assert (await client("POST", "/api/v1/session", headers=bearer(link["token"]))).status == 401, "a link is good once"


async def test_a_page_of_another_site_gets_none(client: Client) -> None:
    answer = await client("POST", "/api/v1/session", headers={"Origin": "http://evil.example"})
    assert answer.status == 403


async def test_where_nobody_is_asked_the_token_is_empty(application: Application) -> None:
    async with serving(application(auth=Auth(None, SECRET))) as client:
        assert (await client("POST", "/api/v1/session", login=False)).json()["token"] == ""


def user(auth: Auth, token: str) -> str | None:
    return auth.user(Headers({"authorization": f"Bearer {token}"}))


def test_tokens_end_and_belong_to_a_login_and_a_secret() -> None:
    auth = Auth(Login("admin", "password"), SECRET)
    soon = int(time.time()) + 100
    token = auth.token(TokenKind.SESSION, soon)
    assert user(auth, token) == "admin"
    assert user(Auth(Login("admin", "password"), SECRET), token) == "admin", "a restart ends no session"
    assert user(Auth(Login("admin", "another"), SECRET), token) is None
    assert user(Auth(Login("admin", "password"), b"another"), token) is None
    assert user(auth, auth.token(TokenKind.SESSION, int(time.time()) - 1)) is None


@pytest.mark.parametrize(
    "change",
    [
        "",
        "...",
        "s.{end}.{once}.",
        "s.{end}.{once}",
        "l.{end}.{once}.{seal}",
        "s.{later}.{once}.{seal}",
        "s.{end}.0.{seal}",
        "s..{once}.{seal}",
        "s.{end}.{once}.é",
        "{seal}",
    ],
)
def test_what_was_not_made_here_is_nothing(change: str) -> None:
    auth = Auth(Login("admin", "password"), SECRET)
    _, end, once, seal = auth.token(TokenKind.SESSION, int(time.time()) + 100).split(".")
    assert user(auth, f"s.{end}.{once}.{seal}") == "admin"
    assert user(auth, change.format(end=end, once=once, seal=seal, later=int(end) + 1)) is None
