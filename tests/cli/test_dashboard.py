from __future__ import annotations

import json
import webbrowser

import pytest

from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway


@pytest.fixture
def opened(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser was given; there is a screen."""
    addresses: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda address: not addresses.append(address))  # type: ignore[func-returns-value]
    gateway.canned["POST /api/v1/session"] = (201, {}, json.dumps({"token": "l.1.2.3", "expiresAt": 1}).encode())
    return addresses


def test_the_page_is_opened_logged_in(gateway: Gateway, faas: Faas, opened: list[str]) -> None:
    done = faas("dashboard")
    assert (done.code, done.out) == (0, f"Opened {gateway.url}/ui/\n")
    assert opened == [f"{gateway.url}/ui/#session=l.1.2.3"]
    assert gateway.asked[-1].query == {"link": "true"}


def test_where_there_is_no_screen_the_address_is_printed(
    gateway: Gateway, faas: Faas, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faas("dashboard", "--url").out == f"{gateway.url}/ui/#session=l.1.2.3\n"
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert faas("dashboard").out == f"{gateway.url}/ui/#session=l.1.2.3\n"
    assert opened == []


def test_where_nobody_is_asked_for_a_login_there_is_no_link(gateway: Gateway, faas: Faas, opened: list[str]) -> None:
    gateway.canned["POST /api/v1/session"] = (201, {}, b'{"token": "", "expiresAt": 1}')
    assert faas("dashboard", "--url").out == f"{gateway.url}/ui/\n"


def test_a_gateway_without_a_page_is_named(gateway: Gateway, faas: Faas) -> None:
    done = faas("dashboard")
    assert done.code == 1
    assert "has no page" in done.err
