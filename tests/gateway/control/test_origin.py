"""What a browser can be made to send by a page of another site is refused; what is no browser passes."""

from __future__ import annotations

import json
import socket

import pytest
from starlette.datastructures import Headers

from gateway.control.origin import Hosts, refusal
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

HOSTS = Hosts(["gw.example.com", "proxy.example.com:8443"], "bound.example.com")
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}
DEPLOY = json.dumps({"service": "evil", "image": "evil"})


async def refused(client: Client, orchestrator: FakeOrchestrator, headers: dict[str, str], method: str = "POST") -> str:
    answer = await client(method, "/system/functions", DEPLOY if method == "POST" else None, BROWSER | headers)
    assert answer.status == 403, answer
    assert orchestrator.statuses("openfaas-fn") == []
    return answer.text


async def test_a_foreign_origin_is_refused(client: Client, orchestrator: FakeOrchestrator) -> None:
    text = await refused(client, orchestrator, {"Origin": "https://evil.example", "Content-Type": "application/json"})
    assert "https://evil.example" in text


async def test_a_rebound_host_is_refused_although_its_origin_is_its_own(client: Client, orchestrator: FakeOrchestrator) -> None:
    headers = {"Host": f"evil.example:{client.port}", "Origin": f"http://evil.example:{client.port}"}
    assert "--allow-hosts" in await refused(client, orchestrator, headers)
    await refused(client, orchestrator, {"Host": f"evil.example:{client.port}"}, "GET")


async def test_a_text_plain_post_of_a_browser_is_refused(client: Client, orchestrator: FakeOrchestrator) -> None:
    assert "text/plain" in await refused(client, orchestrator, {"Content-Type": "text/plain;charset=UTF-8"})


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_form_post_of_a_browser_is_refused(client: Client, orchestrator: FakeOrchestrator, kind: str) -> None:
    await refused(client, orchestrator, {"Content-Type": kind})


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_no_cors_request_of_another_site_is_refused(
    client: Client, orchestrator: FakeOrchestrator, method: str, site: str
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Content-Type": "application/json"}
    await refused(client, orchestrator, headers, method)


async def test_a_preflight_of_another_site_is_refused(client: Client) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = await client("OPTIONS", "/system/functions", headers=BROWSER | headers, login=False)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_page_of_its_own_may_send_any_content_type(client: Client, orchestrator: FakeOrchestrator) -> None:
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec-Fetch-Site": "same-origin"}
    for number, kind in enumerate(("application/json", "text/plain", "application/x-www-form-urlencoded")):
        body = json.dumps({"service": f"f{number}", "image": "x"})
        answer = await client("POST", "/system/functions", body, BROWSER | own | {"Content-Type": kind})
        assert answer.status == 202, answer


async def test_curl_posts_what_it_calls_a_form(client: Client) -> None:
    headers = {"User-Agent": "curl/8.5.0", "Content-Type": "application/x-www-form-urlencoded"}
    assert (await client("POST", "/system/functions", DEPLOY, headers)).status == 202


async def test_the_health_check_looks_at_the_host_too(client: Client) -> None:
    assert (await client("GET", "/healthz", headers={"Host": "evil.example"})).status == 403


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("localhost.", True),
        ("hello.localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("127.9.9.9", True),
        ("[::1]:8080", True),
        ("10.1.2.3:31112", True),
        (socket.gethostname(), True),
        ("gw.example.com", True),
        ("gw.example.com:443", True),
        ("proxy.example.com", True),
        ("bound.example.com:8080", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evillocalhost", False),
        ("sub.gw.example.com", False),
        ("127.0.0.1@evil.example", False),
        ("[::1", True),
        ("", False),
        ("evil.example:80:80", False),
    ],
)
def test_hosts(host: str, known: bool) -> None:
    assert HOSTS.knows(host) is known


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8080", "localhost:8080", True),
        ("http://localhost", "localhost:80", True),
        ("https://gw.example.com", "gw.example.com", True),
        ("https://gw.example.com", "127.0.0.1:8080", True),  # a proxy that rewrites Host
        ("https://proxy.example.com:8443", "127.0.0.1:8080", True),
        ("https://proxy.example.com", "127.0.0.1:8080", False),
        ("http://gw.example.com:3000", "127.0.0.1:8080", False),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://localhost:3000", "localhost:8080", False),
        ("http://127.0.0.1:8080", "localhost:8080", False),
        ("null", "localhost:8080", False),
        ("", "localhost:8080", False),
        ("file://", "localhost:8080", False),
        ("http://localhost:8080/path", "localhost:8080", False),
        ("http://localhost:99999", "localhost:8080", False),
        ("http://user@localhost:8080", "localhost:8080", False),
    ],
)
def test_origins(origin: str, host: str, same: bool) -> None:
    assert HOSTS.is_same_origin(origin, host) is same


def test_two_hosts_or_two_origins_of_which_one_is_foreign_are_refused() -> None:
    two_hosts = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])
    assert refusal(HOSTS, "GET", two_hosts)
    origins = Headers(raw=[(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil.example")])
    assert refusal(HOSTS, "GET", origins)


def test_a_request_without_a_host_is_no_browsers() -> None:
    assert refusal(HOSTS, "POST", Headers({})) == ""
