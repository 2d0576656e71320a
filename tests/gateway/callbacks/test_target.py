from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks.addresses import Allowed
from gateway.callbacks.target import Guard, InvalidCallback, Target, parse

PUBLIC = Guard(Allowed(["public"]))
OWN_PORT = Guard(Allowed(["public"]), own_port=8080)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.com", Target(False, "example.com", 80, "example.com", "/")),
        ("https://Example.com:8443/a/b?c=d#e", Target(True, "example.com", 8443, "Example.com:8443", "/a/b?c=d")),
        ("HTTPS://example.com.?x", Target(True, "example.com", 443, "example.com.", "/?x")),
        ("http://[2a00::1]:81/", Target(False, "2a00::1", 81, "[2a00::1]:81", "/")),
    ],
)
def test_urls_are_read(url: str, target: Target) -> None:
    assert parse(url) == target
    assert PUBLIC.check(url) == target


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "printable"),
        ("example.com/x", "http:// or https://"),
        ("ftp://example.com", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://example.com", "http:// or https://"),
        ("http:///x", "needs a host"),
        ("http://:80/", "needs a host"),
        ("http://example.com:0/", "from 1 to 65535"),
        ("http://example.com:99999/", "Port out of range"),
        ("http://user:secret@example.com/", "must not have a user name"),
        ("http://user@example.com/", "must not have a user name"),
        ("http://exa mple.com/", "without spaces"),
        ("http://example.com/\r\nX: y", "printable ASCII"),
        ("http://example.com\\@127.0.0.1/", "backslashes"),
        ("http://bücher.example/", "printable ASCII"),
        ("http://[::1", "Invalid IPv6"),
        ("http://[fe80::1%25eth0]/", "needs a host"),
        ("http://example.com/" + "x" * 2048, "at most 2048"),
        ("http://a..b/", "neither a name nor an address"),
        ("http://" + "x" * 64 + ".example/", "neither a name nor an address"),
        ("http://" + "x." * 127 + "example/", "neither a name nor an address"),
        ("http://exa$mple.com/", "neither a name nor an address"),
        ("http://127.0.0.1/", "callbacks to 127.0.0.1 are not allowed here; who runs the platform"),
        ("http://2130706433/", "callbacks to 127.0.0.1 are not allowed"),
        ("http://[::ffff:169.254.169.254]/latest/meta-data", "are not allowed here"),
    ],
)
def test_what_cannot_be_is_said(url: str, complaint: str) -> None:
    with pytest.raises(InvalidCallback) as error:
        PUBLIC.check(url)
    assert complaint in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_list_of_names_allows_no_others() -> None:
    guard = Guard(Allowed(["hooks.example.com"]))
    guard.check("https://hooks.example.com/x")
    with pytest.raises(InvalidCallback, match=r"callbacks to example\.com are not allowed"):
        guard.check("https://example.com/x")


def test_a_named_host_may_be_anywhere_and_others_only_where_their_address_may() -> None:
    guard = Guard(Allowed(["public", "intern.example"]))
    inside = ipaddress.ip_address("10.0.0.1")
    assert guard.permits(guard.check("http://intern.example/"), inside)
    assert not guard.permits(guard.check("http://example.com/"), inside)


def test_the_platforms_own_port_is_always_open_on_this_machine_only() -> None:
    OWN_PORT.check("http://127.0.0.1:8080/function/next")
    OWN_PORT.check("http://[::1]:8080/function/next")
    assert OWN_PORT.permits(OWN_PORT.check("http://localhost:8080/"), ipaddress.ip_address("127.0.0.1"))
    for url in ("http://127.0.0.1:8081/", "http://192.168.0.1:8080/", "http://0.0.0.0:8080/"):
        with pytest.raises(InvalidCallback):
            OWN_PORT.check(url)
    Guard(Allowed(["one.example"]), own_port=8080).check("http://localhost:8080/")


@given(st.text(max_size=60) | st.from_regex(r"https?://[\[\]:@/a-f0-9.%?#\\]{0,20}", fullmatch=True))
def test_any_text_is_a_target_or_is_refused(url: str) -> None:
    try:
        target = PUBLIC.check(url)
    except InvalidCallback:
        return
    assert target.host
    assert 0 < target.port < 65536
    assert target.path.startswith("/")
