from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from cli import credentials
from cli.credentials import Login, config_path
from cli.errors import Misuse

URL = "http://127.0.0.1:8080"


def test_the_file_is_in_the_format_of_the_stock_client(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "config.yml"
    assert credentials.save_login("HTTP://127.0.0.1:8080/", "admin", "pa:ss", path) == path
    assert path.read_text() == "auths:\n- gateway: http://127.0.0.1:8080\n  auth: basic\n  token: YWRtaW46cGE6c3M=\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert credentials.find_login(URL, path) == Login("admin", "pa:ss")


def test_other_entries_and_unknown_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    other = {"gateway": "https://other", "auth": "oauth2", "token": "jwt", "options": [{"name": "x"}]}
    path.write_text(yaml.safe_dump({"auths": [other, {"gateway": URL, "auth": "basic", "token": "b2xkOm9sZA=="}], "more": 1}))
    credentials.save_login(URL, "admin", "new", path)
    credentials.save_login("http://third", "u", "p", path)
    config = yaml.safe_load(path.read_text())
    assert config["auths"][0] == other
    assert [entry["gateway"] for entry in config["auths"]] == ["https://other", URL, "http://third"]
    assert config["more"] == 1
    assert credentials.find_login("https://other", path) == Login(token="jwt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yml"]


def test_a_login_for_localhost_serves_127_0_0_1_and_the_exact_spelling_wins(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    credentials.save_login("http://localhost:8080", "a", "1", path)
    assert credentials.find_login(URL, path) == Login("a", "1")
    credentials.save_login(URL, "b", "2", path)
    assert credentials.find_login(URL, path) == Login("b", "2")
    assert credentials.find_login("http://localhost:9090", path) is None


def test_logout_forgets_every_spelling_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    for url in ("http://localhost:8080", URL, "http://kept"):
        credentials.save_login(url, "u", "p", path)
    assert credentials.forget_login(URL, path)
    assert not credentials.forget_login(URL, path)
    assert credentials.find_login("http://kept", path) is not None


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"HOME": "/h"}, "/h/.openfaas/config.yml"),
        ({"HOME": "/h", "OPENFAAS_CONFIG": "/c"}, "/c/config.yml"),
        ({"HOME": "/h", "CI": "true"}, ".openfaas/config.yml"),
        ({"HOME": "/h", "CI": "1", "OPENFAAS_CONFIG": "/c"}, "/c/config.yml"),
        ({"HOME": "/h", "CI": "yes"}, "/h/.openfaas/config.yml"),
    ],
)
def test_where_logins_are_kept(environment: dict[str, str], path: str) -> None:
    assert config_path(environment) == Path(path)


@pytest.mark.parametrize(
    "content", ["auths: [", "- a", "auths: 3", "auths: [3]", f"auths: [{{gateway: '{URL}', auth: basic, token: '?'}}]"]
)
def test_a_damaged_file_is_named_and_not_written_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(content)
    with pytest.raises(Misuse, match=r"config\.yml"):
        credentials.find_login(URL, path)
    assert path.read_text() == content


def test_no_file_is_no_login(tmp_path: Path) -> None:
    assert credentials.find_login(URL, tmp_path / "none.yml") is None
    assert not credentials.forget_login(URL, tmp_path / "none.yml")
