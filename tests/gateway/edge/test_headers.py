"""Which header fields cross, and which the edge writes."""

from __future__ import annotations

import re

import pytest

from gateway.edge.headers import DROP, FORWARDED_OTHER, KEEP, REQUEST, learn, spellings, tokens, without
from tests.gateway.edge.conftest import MakeLab
from tests.gateway.edge.lab import Lab, field, fields

CROSSING = {
    # sent by the client → seen by the function (None: gone)
    "plain": (b"X-Own: a b\r\n", b"x-own", [b"a b"]),
    "repeated": (b"X-Own: a\r\nX-Own: b\r\n", b"x-own", [b"a", b"b"]),
    "bytes above ASCII": (b"X-Own: \xe4\r\n", b"x-own", [b"\xe4"]),
    "user agent": (b"User-Agent: curl/8\r\n", b"user-agent", [b"curl/8"]),
    "cookie": (b"Cookie: a=b\r\n", b"cookie", [b"a=b"]),
    "authorization": (b"Authorization: Basic eDp5\r\n", b"authorization", [b"Basic eDp5"]),
    "connection": (b"Connection: close\r\n", b"connection", []),
    "keep-alive": (b"Keep-Alive: timeout=5\r\n", b"keep-alive", []),
    "proxy-connection": (b"Proxy-Connection: keep-alive\r\n", b"proxy-connection", []),
    "proxy-authorization": (b"Proxy-Authorization: Basic x\r\n", b"proxy-authorization", []),
    "TE": (b"TE: trailers\r\n", b"te", []),
    "upgrade without connection": (b"Upgrade: websocket\r\n", b"upgrade", []),
    "named by connection": (b"X-Own: a\r\nConnection: close, x-OWN\r\n", b"x-own", []),
    "named by connection before it comes": (b"Connection: x-own\r\nX-Own: a\r\n", b"x-own", []),
    "framing cannot be named away": (b"Connection: host, x-call-id\r\n", b"host", [b"h"]),
    "start time": (b"X-Start-Time: 1\r\nX-Own: a\r\n", b"x-own", [b"a"]),
    "expect": (b"Expect: 100-continue\r\n", b"expect", []),
    "untrusted forwarded-for": (b"X-Forwarded-For: 9.9.9.9\r\n", b"x-forwarded-for", [b"127.0.0.1"]),
    "untrusted forwarded-host": (b"X-Forwarded-Host: evil\r\n", b"x-forwarded-host", [b"h"]),
    "untrusted forwarded-proto": (b"X-Forwarded-Proto: https\r\n", b"x-forwarded-proto", [b"http"]),
    "untrusted forwarded-port": (b"X-Forwarded-Port: 1\r\n", b"x-forwarded-port", []),
    "untrusted forwarded": (b"Forwarded: for=9.9.9.9\r\n", b"forwarded", []),
    "untrusted real ip": (b"X-Real-IP: 9.9.9.9\r\n", b"x-real-ip", []),
    "disguised forwarded-for": (b"X_Forwarded_For: 9.9.9.9\r\n", b"x_forwarded_for", []),
    "disguised length": (b"Content_Length: 9\r\n", b"content_length", []),
}


@pytest.mark.parametrize("name", CROSSING)
async def test_what_the_function_sees(lab: Lab, name: str) -> None:
    sent, header, seen = CROSSING[name]
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    assert (await client.get(extra=sent))[0] == 200
    assert fields(origin.heads[0], header) == seen


TRUSTED = {
    "appended": (b"X-Forwarded-For: 9.9.9.9\r\n", b"x-forwarded-for", [b"9.9.9.9, 127.0.0.1"]),
    "appended to several": (
        b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n",
        b"x-forwarded-for",
        [b"1.1.1.1, 2.2.2.2, 127.0.0.1"],
    ),
    "absent": (b"", b"x-forwarded-for", [b"127.0.0.1"]),
    "host": (b"X-Forwarded-Host: a.example\r\n", b"x-forwarded-host", [b"a.example"]),
    "proto": (b"X-Forwarded-Proto: https\r\n", b"x-forwarded-proto", [b"https"]),
    "port": (b"X-Forwarded-Port: 443\r\n", b"x-forwarded-port", [b"443"]),
    "forwarded": (b"Forwarded: for=9.9.9.9\r\n", b"forwarded", [b"for=9.9.9.9"]),
}


@pytest.mark.parametrize("name", TRUSTED)
async def test_what_a_trusted_proxy_says_is_kept(make_lab: MakeLab, name: str) -> None:
    sent, header, seen = TRUSTED[name]
    lab = await make_lab(trusted_proxies=("127.0.0.0/8",))
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    assert (await client.get(extra=sent))[0] == 200
    assert fields(origin.heads[0], header) == seen


UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch

ANSWERED = {
    "plain": (b"X-Own: a\r\n", b"x-own", [b"a"]),
    "two cookies": (b"Set-Cookie: a\r\nSet-Cookie: b\r\n", b"set-cookie", [b"a", b"b"]),
    "redirect": (b"Location: /elsewhere\r\n", b"location", [b"/elsewhere"]),
    "connection": (b"Connection: keep-alive\r\n", b"connection", []),
    "keep-alive": (b"Keep-Alive: timeout=5\r\n", b"keep-alive", []),
    "named by connection": (b"X-Own: a\r\nConnection: X-Own\r\n", b"x-own", []),
    "upgrade": (b"Upgrade: h2\r\n", b"upgrade", []),
    "date": (b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n", b"date", [b"Tue, 15 Nov 1994 08:12:31 GMT"]),
    "the runtime's duration": (b"X-Duration-Seconds: 1.5\r\n", b"x-duration-seconds", [b"1.5"]),
    "a service worker's claim": (b"Service-Worker-Allowed: /\r\n", b"service-worker-allowed", []),
    "challenge": (b"WWW-Authenticate: Basic\r\n", b"www-authenticate", [b"Basic"]),
}


@pytest.mark.parametrize("name", ANSWERED)
async def test_what_the_client_sees(lab: Lab, name: str) -> None:
    sent, header, seen = ANSWERED[name]
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 302 Found Here\r\n" + sent + b"Content-Length: 2\r\n\r\nok"
    client = await lab.client()
    status, head, body = await client.get()
    assert (status, body) == (302, b"ok")
    assert head.startswith(b"HTTP/1.1 302 Found Here\r\n")
    assert fields(head, header) == seen


@pytest.mark.parametrize("given", ["a", "A-z.0_9", "x" * 128])
async def test_a_wellformed_call_id_is_kept(lab: Lab, given: str) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    _, head, _ = await client.get(extra=b"X-Call-Id: %b\r\n" % given.encode())
    assert field(head, b"x-call-id") == field(origin.heads[0], b"x-call-id") == given.encode()


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"a/b", b"\xe4"])
async def test_another_call_id_is_replaced(lab: Lab, given: bytes) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 200 OK\r\nX-Call-Id: forged\r\nContent-Length: 0\r\n\r\n"
    client = await lab.client()
    _, head, _ = await client.get(extra=b"X-Call-Id: %b\r\n" % given)
    assert field(head, b"x-call-id") == field(origin.heads[0], b"x-call-id")
    assert re.fullmatch(
        rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", field(head, b"x-call-id") or b""
    )


def test_the_memory_of_spellings_is_bounded() -> None:
    memory = spellings(REQUEST)
    for i in range(10_000):
        assert learn(memory, b"X-%d" % i, REQUEST) == KEEP
    assert len(memory) <= 4096
    assert learn(memory, b"x-forwarded-anything", REQUEST) == FORWARDED_OTHER
    assert learn(memory, b"tE", REQUEST) == DROP


def test_list_headers_are_split_and_fields_removed_by_name() -> None:
    assert tokens([b" A ,, b", b"\tc"]) == [b"a", b"b", b"c"]
    assert without([b"A", b": ", b"1", b"\r\n", b"B", b": ", b"2", b"\r\n"], [b"a"]) == [b"B", b": ", b"2", b"\r\n"]
