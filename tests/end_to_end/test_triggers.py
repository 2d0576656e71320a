"""Timers, events and callbacks on a real platform, killed in between: no run is lost, none is made twice, everybody is told."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import hmac
import http.client
import http.server
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.platform import Platform, running, until
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

HANDLER = """
import os, urllib.request

def handle(event, context):
    headers = {name.lower(): value for name, value in dict(event.headers).items()}
    if "x-topic" in headers:
        told = {"X-Run": headers["x-schedule-time"], "X-Topic": headers["x-topic"]}
        urllib.request.urlopen(urllib.request.Request(os.environ["RECEIVER"], b"", told), timeout=5).close()
    if "ce-id" in headers:
        return " ".join((headers["ce-id"], headers["ce-type"], headers["content-type"], event.body.decode()))
    return "done"
"""


class Receiver:
    """Takes callbacks on loopback; `calls` counts them by X-Call-Id, `last` is the last one's headers and body. `runs` are
    counted by their instants; functions tell of them here."""

    def __init__(self) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        self.runs: collections.Counter[str] = collections.Counter()
        self.last: tuple[dict[str, str], bytes] = {}, b""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if run := self.headers["X-Run"]:
                    receiver.runs[run] += 1
                else:
                    receiver.last = dict(self.headers), body
                    receiver.calls[self.headers["X-Call-Id"]] += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/done"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join(5)


def test_a_callback_tells_the_outcome_and_is_signed(platform: Platform, receiver: Receiver) -> None:
    platform.deploy("told", HANDLER)
    answer = platform.request("POST", "/async-function/told", b"x", {"X-Callback-Url": receiver.url}, login=False)
    assert answer.status == 202
    call_id = answer.headers["x-call-id"]
    until(lambda: receiver.calls[call_id])
    headers, body = receiver.last
    assert (body, headers["X-Function-Status"], headers["X-Function-Name"]) == (b"done", "200", "told")
    secret = (platform.data / "callback-secret").read_bytes()
    signed = f"{call_id}.200.{headers['X-Pinnace-Timestamp']}.".encode() + body
    assert headers["X-Pinnace-Signature"] == f"sha256={hmac.new(secret, signed, hashlib.sha256).hexdigest()}"


def test_a_function_has_a_callback_secret_of_its_own(platform: Platform, receiver: Receiver) -> None:
    platform.faas("secret", "create", "shop-hooks", stdin="new\nold\n")
    platform.deploy("shop", HANDLER, "--annotation", "com.pinnace.callback.secret=shop-hooks")
    answer = platform.request("POST", "/async-function/shop", b"x", {"X-Callback-Url": receiver.url}, login=False)
    call_id = answer.headers["x-call-id"]
    until(lambda: receiver.calls[call_id])
    headers, body = receiver.last
    signed = f"{call_id}.200.{headers['X-Pinnace-Timestamp']}.".encode() + body
    wanted = [f"sha256={hmac.new(key, signed, hashlib.sha256).hexdigest()}" for key in (b"new", b"old")]
    assert headers["X-Pinnace-Signature"].split() == wanted
    refused = platform.faas("secret", "remove", "shop-hooks", check=False)
    assert refused.returncode == 1 and "is used by shop" in refused.stderr


def test_a_callback_tells_of_a_cancellation(platform: Platform, receiver: Receiver) -> None:
    platform.deploy("later", HANDLER)
    headers = {"X-Callback-Url": receiver.url, "X-Delay-Seconds": "3600"}
    call_id = platform.request("POST", "/async-function/later", b"x", headers, login=False).headers["x-call-id"]
    platform.faas("async", "cancel", call_id)
    until(lambda: receiver.calls[call_id])
    told, body = receiver.last
    assert (told["X-Call-State"], told["X-Function-Status"], told["X-Retry"], body) == ("cancelled", "503", "0", b"")
    assert receiver.calls[call_id] == 1


def test_a_callback_may_go_to_the_next_function(platform: Platform, receiver: Receiver) -> None:
    platform.deploy("first", HANDLER)
    platform.deploy("second", HANDLER)
    following = f"{platform.url}/async-function/second"
    answer = platform.request("POST", "/async-function/first", b"x", {"X-Callback-Url": following}, login=False)
    assert answer.status == 202
    until(lambda: platform.details("second")["invocationCount"])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://169.254.169.254/latest/meta-data", "not allowed here"),
        ("http://[::ffff:10.0.0.1]/", "not allowed here"),
        ("ftp://example.com/", "http:// or https://"),
        ("http://user:secret@example.com/", "must not have a user name"),
    ],
)
def test_a_callback_that_may_not_be_is_refused_at_once(platform: Platform, url: str, why: str) -> None:
    platform.deploy("strict", HANDLER)
    answer = platform.request("POST", "/async-function/strict", b"x", {"X-Callback-Url": url}, login=False)
    assert (answer.status, why in answer.text) == (400, True), answer.text


def test_the_handler_in_the_documentation_knows_what_calls_it(platform: Platform) -> None:
    page = (Path(__file__).parents[2] / "docs/events.md").read_text()
    platform.deploy("documented", page.partition("```python\n")[2].partition("```")[0])
    assert platform.call("documented").text == "called by hand"
    run = platform.call("documented", X_Topic="cron-function", X_Schedule_Time="2026-01-31T12:05:00Z")
    assert run.text == "the report of 2026-01-31T12:05:00Z"
    event = platform.call("documented", '{"total": 12.5}', ce_type="com.example.order.made", ce_id="17")
    assert event.text == "invoice for 17: 12.5"


def test_an_event_reaches_who_wants_it_once(platform: Platform) -> None:
    platform.deploy("orders", HANDLER, "--annotation", "com.pinnace.events=type=com.example.order.*")
    event = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "com.example.order.made", "data": {"n": 1.50}}
    for repeated in (False, True):
        answer = platform.request("POST", "/events", json.dumps(event), {"Content-Type": "application/cloudevents+json"})
        assert answer.status == 202
        (told,) = answer.json()["events"][0]["functions"]
        assert (told["function"], told["repeated"]) == ("orders", repeated)
    call_id = told["callId"]
    assert platform.request("GET", f"/async-function/{call_id}?wait=10s").json()["state"] == "succeeded"
    result = platform.request("GET", f"/async-function/{call_id}/result").text
    assert result == 'e-1 com.example.order.made application/json {"n": 1.5}'
    assert platform.request("POST", "/events", json.dumps(event), login=False, headers={"Authorization": ""}).status == 401
    asked = platform.request("OPTIONS", "/events", headers={"WebHook-Request-Origin": "shop.example.com"})
    assert (asked.status, asked.headers["webhook-allowed-origin"]) == (200, "shop.example.com")
    assert "orders" in platform.faas("event", "match", "--type", "com.example.order.made").stdout
    sent = platform.faas("event", "send", "-t", "com.example.order.made", "--id", "e-2", "-d", '{"n": 2}', "--json").stdout
    told = json.loads(sent)["functions"][0]
    result = platform.request("GET", f"/async-function/{told['callId']}/result?wait=10s").text
    assert result == 'e-2 com.example.order.made application/json {"n": 2}'


@pytest.mark.parametrize("key", [b"\x1fevent:0", b"\x1ftimer:* * * * *|UTC|0", b"a\x1fb"])
def test_no_client_can_take_the_key_of_a_run_or_an_event(platform: Platform, key: bytes) -> None:
    platform.deploy("guarded", HANDLER)
    with socket.create_connection(("127.0.0.1", platform.port), timeout=5) as client:
        head = b"POST /async-function/guarded HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: %b\r\nContent-Length: 0\r\n\r\n"
        client.sendall(head % key)
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_bad_schedule_is_refused_and_the_next_runs_are_shown(platform: Platform) -> None:
    platform.deploy("hourly", HANDLER, "--annotation", "topic=cron-function", "--annotation", "schedule=0 * * * *")
    assert "Timers:" in platform.faas("describe", "hourly").stdout
    refused = platform.faas(
        "deploy", platform.home / "hourly", "--name", "hourly", "--lang", "python3-http", "--annotation", "topic=cron-function",
        "--annotation", "schedule=61 * * * *", check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "schedule: expression 1 '61 * * * *': the minute cannot be" in refused.stdout + refused.stderr


@pytest.mark.slow
def test_kill_9_loses_no_run_makes_none_twice_and_everybody_is_told(tmp_path: Path, receiver: Receiver) -> None:
    accepted: list[str] = []
    over = threading.Event()
    seed = random.Random(7)
    with running(tmp_path) as platform:
        timed = ("--annotation", "topic=cron-function", "--annotation", "schedule=* * * * * *")
        told = ("--env", f"RECEIVER={receiver.url}")
        platform.deploy("tick", HANDLER, *timed, "--annotation", "com.pinnace.timer.missed=all", *told)

        def submit() -> None:
            while not over.wait(0.01):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    headers = {"X-Callback-Url": receiver.url, "Authorization": ""}
                    answer = platform.request("POST", "/async-function/tick", b"x", headers, login=False, timeout_s=2)
                    if answer.status == 202:
                        accepted.append(answer.headers["x-call-id"])

        clients = threading.Thread(target=submit)
        clients.start()
        try:
            first = int(time.time()) + 1
            for _ in range(6):
                time.sleep(seed.uniform(0.2, 1.0))
                platform.kill()
                platform.start()
            last = int(time.time())
        finally:
            over.set()
            clients.join()
        assert len(accepted) > 50
        until(lambda: all(receiver.calls[call_id] for call_id in accepted), within_s=30)
        wanted = {time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)) for second in range(first, last + 1)}
        until(lambda: wanted <= receiver.runs.keys(), within_s=30)
        assert sum(count - 1 for count in receiver.runs.values()) <= 6, "only what a kill cut short is carried out again"
        assert sum(count - 1 for count in receiver.calls.values()) <= 6 * 8, "the same: at most eight are under way"


@pytest.mark.slow
def test_two_platforms_that_share_a_queue_make_each_run_once(tmp_path: Path, receiver: Receiver) -> None:
    needs_redis()
    timed = ("--annotation", "topic=cron-function", "--annotation", "schedule=* * * * * *")
    homes = tmp_path / "one", tmp_path / "other"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        for home in homes:
            home.mkdir()
        one, other = (stack.enter_context(running(home, "--queue", server.settings.url)) for home in homes)
        for platform in (one, other):
            told = ("--env", f"RECEIVER={receiver.url}")
            platform.deploy("tick", HANDLER, *timed, "--annotation", "com.pinnace.timer.missed=all", *told)
        first = int(time.time()) + 1
        for platform in (one, other, one):
            time.sleep(1.2)
            platform.kill()
            platform.start()
        last = int(time.time())
        wanted = {time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)) for second in range(first, last + 1)}
        until(lambda: wanted <= receiver.runs.keys(), within_s=40)  # a lease of who was killed lasts 30 s
        assert sum(count - 1 for count in receiver.runs.values()) <= 3, "only what a kill cut short is carried out again"
