from __future__ import annotations

import base64
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from gateway.control.auth import Auth, Login, NoLogin
from tests.gateway.control.client import LOGIN, Client, basic
from tests.gateway.control.conftest import Application, serving

PROTECTED = (
    "/system/functions",
    "/system/info",
    "/system/logs?name=x",
    "/api/v1/functions",
    "/api/v1/openapi.json",
    "/none",
)


@pytest.mark.parametrize("path", PROTECTED)
async def test_without_a_login_everything_is_401(client: Client, path: str) -> None:
    answer = await client("GET", path, login=False)
    assert (answer.status, answer.text) == (401, "invalid credentials")
    assert answer.headers["www-authenticate"] == 'Basic realm="Restricted"'


async def test_a_browser_is_not_asked_for_a_login_that_it_would_add_to_every_request(client: Client) -> None:
    answer = await client("GET", "/system/functions", headers={"Sec-Fetch-Mode": "navigate"}, login=False)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/publickey", "/", "/ui/"])
async def test_health_public_key_and_the_redirect_need_none(client: Client, path: str) -> None:
    assert (await client("GET", path, login=False)).status in (200, 307)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer ",
        "Bearer token",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic " + base64.b64encode(b"admin").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        basic("admin", "wrong"),
        basic("root", LOGIN[1]),
        basic("admin", LOGIN[1] + " "),
    ],
)
async def test_a_wrong_login_is_401(client: Client, authorization: str) -> None:
    assert (await client("GET", "/system/functions", headers={"Authorization": authorization})).status == 401


async def test_the_right_login_passes_whatever_the_case_of_the_scheme(client: Client) -> None:
    token = basic(*LOGIN).partition(" ")[2]
    for scheme in ("Basic", "basic", "BASIC"):
        assert (await client("GET", "/system/functions", headers={"Authorization": f"{scheme} {token}"})).status == 200


async def test_without_auth_whatever_is_sent_is_ignored(application: Application) -> None:
    async with serving(application(auth=Auth(None, b"x"))) as client:
        for authorization in ("Bearer ", "Basic !!!", basic("a", "b")):
            assert (await client("GET", "/system/functions", headers={"Authorization": authorization})).status == 200
        assert (await client("GET", "/system/functions", login=False)).status == 200


def test_the_first_start_makes_a_login_that_the_second_one_finds(tmp_path: Path) -> None:
    first, second = Auth.open(tmp_path), Auth.open(tmp_path)
    assert first.login is not None
    assert first.login == second.login
    assert first.login.user == "admin"
    assert len(first.login.password) >= 32
    assert first.payload_secret == second.payload_secret
    for name in ("basic-auth-user", "basic-auth-password", "payload-secret"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["basic-auth-password", "basic-auth-user", "payload-secret"]
    assert Auth.open(tmp_path, enabled=False).login is None


def test_login_files_are_read_without_the_space_around_them(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "basic-auth-user").write_text("ops\n")
    (mounted / "basic-auth-password").write_text("  pa:ss\n")
    assert Auth.open(tmp_path, secret_mount_path=mounted).login == Login("ops", "pa:ss")
    assert not (tmp_path / "basic-auth-password").exists()


def test_a_missing_or_empty_login_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoLogin, match="basic-auth-user"):
        Auth.open(tmp_path, secret_mount_path=tmp_path / "nowhere")
    (tmp_path / "basic-auth-password").write_text("\n")
    with pytest.raises(NoLogin, match="basic-auth-password is empty"):
        Auth.open(tmp_path)
    (tmp_path / "basic-auth-user").write_text("a:b")
    (tmp_path / "basic-auth-password").write_text("x")
    with pytest.raises(NoLogin, match="'a:b'"):
        Auth.open(tmp_path)


def test_a_login_is_not_shown_by_accident() -> None:
    assert "hidden" not in repr(Login("admin", "hidden"))
    assert Auth(Login("a", "b"), b"").user(Headers({"authorization": basic("a", "b")})) == "a"
