from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from builder.registry import credentials as module
from builder.registry.credentials import HUB_KEY, Credentials, config_path, find_credentials
from builder.registry.errors import NotAuthorized

HOST = "registry.example.com"
ENTRY = {"auth": base64.b64encode(b"user:pass:word").decode()}
LOGIN = Credentials("user", "pass:word")


def config(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    return path


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "test") -> None:
    program = tmp_path / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        (HOST, HOST),
        (HOST, f"https://{HOST}"),
        (HOST, f"https://{HOST}/v2/"),
        (HOST, f"http://{HOST}/"),
        ("docker.io", HUB_KEY),
        ("docker.io", "docker.io"),
    ],
)
def test_the_keys_under_which_logins_stand(tmp_path: Path, registry: str, key: str) -> None:
    assert find_credentials(registry, config(tmp_path, {"auths": {key: ENTRY}})) == LOGIN


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"username": "u", "password": "p"}, Credentials("u", "p")),
        ({"identitytoken": "t", "auth": "x"}, Credentials(identity_token="t")),
        ({}, None),  # a helper keeps it
    ],
)
def test_the_forms_of_an_entry(tmp_path: Path, entry: dict[str, str], found: Credentials | None) -> None:
    assert find_credentials(HOST, config(tmp_path, {"auths": {HOST: entry}})) == found


def test_no_file_and_no_entry_are_no_login(tmp_path: Path) -> None:
    assert find_credentials(HOST, tmp_path / "none.json") is None
    assert find_credentials(HOST, config(tmp_path, {"auths": {"other.example.com": ENTRY}})) is None
    assert find_credentials(HOST, config(tmp_path, [])) is None


@pytest.mark.parametrize("auth", ["%%%", base64.b64encode(b"no colon").decode()])
def test_an_entry_that_cannot_be_read_is_told(tmp_path: Path, auth: str) -> None:
    with pytest.raises(NotAuthorized, match=f"the login for {HOST} in .* is not base64 of USER:PASSWORD"):
        find_credentials(HOST, config(tmp_path, {"auths": {HOST: {"auth": auth}}}))


def test_a_file_that_is_not_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(NotAuthorized, match="cannot be read: it is not JSON"):
        find_credentials(HOST, tmp_path / "config.json")


def test_a_helper_is_asked_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(
        tmp_path,
        monkeypatch,
        f'read host; [ "$1 $host" = "get {HOST}" ] && echo \'{{"Username":"user","Secret":"pass:word"}}\'',
    )
    assert find_credentials(HOST, config(tmp_path, {"credHelpers": {HOST: "test"}, "auths": {HOST: {}}})) == LOGIN
    assert find_credentials(HOST, config(tmp_path, {"credsStore": "test"})) == LOGIN


def test_a_helper_may_keep_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username":"<token>","Secret":"t"}\'')
    assert find_credentials(HOST, config(tmp_path, {"credsStore": "test"})) == Credentials(identity_token="t")


def test_a_helper_without_the_login_leaves_it_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert find_credentials(HOST, config(tmp_path, {"credsStore": "test", "auths": {HOST: ENTRY}})) == LOGIN


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo the keychain is locked; exit 1", "the keychain is locked"),
        ("exit 3", "exit code 3"),
        ("echo hello", "something else"),
        ("echo '{}'", "something else"),
    ],
)
def test_a_helper_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(NotAuthorized, match=reason):
        find_credentials(HOST, config(tmp_path, {"credsStore": "test"}))


def test_a_helper_that_is_not_there_or_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAuthorized, match=r"docker-credential-none for .*, which is not installed"):
        find_credentials(HOST, config(tmp_path, {"credsStore": "none"}))
    with pytest.raises(NotAuthorized, match="is not the name of a credential helper"):
        find_credentials(HOST, config(tmp_path, {"credsStore": "../../bin/sh"}))
    helper(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(module, "HELPER_TIMEOUT_S", 0.05)
    with pytest.raises(NotAuthorized, match=r"no answer within 0.05 s"):
        find_credentials(HOST, config(tmp_path, {"credsStore": "test"}))


def test_where_the_file_is(tmp_path: Path) -> None:
    assert config_path({"DOCKER_CONFIG": str(tmp_path)}) == tmp_path / "config.json"
    assert config_path({}) == Path.home() / ".docker" / "config.json"


def test_secrets_do_not_show() -> None:
    assert "pass" not in repr(LOGIN)
