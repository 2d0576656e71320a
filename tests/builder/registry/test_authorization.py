from __future__ import annotations

import pytest

from builder.registry.authorization import Authorization
from builder.registry.credentials import Credentials
from builder.registry.errors import RegistryError
from builder.registry.transport import Transport
from tests.builder.registry.fake_registry import FakeRegistry

LOGIN = Credentials("user", "secret")


def challenged(server: FakeRegistry, *, plain: bool, realm: str = "") -> str | None:
    """The header after a challenge that names the realm, by default the server's own."""
    with Transport(silence_s=5.0) as transport:
        authorization = Authorization("registry.example.com", transport, lambda: LOGIN, plain=plain)
        realm = realm or f"http://{server.host}/token"
        assert authorization.challenged(f'Bearer realm="{realm}",service="fake"', "repository:a:pull", None)
        return authorization.header("repository:a:pull")


def test_a_registry_without_tls_may_have_a_token_server_without(server: FakeRegistry) -> None:
    assert challenged(server, plain=True) == "Bearer token-for-user"


def test_a_registry_with_tls_cannot_have_the_login_sent_without(server: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match=f"names the token server {server.host}, which has no TLS"):
        challenged(server, plain=False)
    assert not server.requests


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "ftp://a/b", "token"])
def test_what_is_no_token_server_is_not_asked(server: FakeRegistry, realm: str) -> None:
    with pytest.raises(RegistryError, match="names no token server that could be asked"):
        challenged(server, plain=True, realm=realm)
