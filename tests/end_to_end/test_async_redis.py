"""Two platforms that share a Redis server: either carries out what the other accepted, and both outlive the server's death."""

from __future__ import annotations

import time
from pathlib import Path

from tests.end_to_end.platform import Platform, running, until
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

ECHO = "def handle(event, context):\n    return event.body\n"


def submit(platform: Platform, body: bytes, status: int = 202) -> dict[str, str]:
    answer = platform.request("POST", "/async-function/echo", body, login=False)
    assert answer.status == status, answer
    return answer.headers


def result(platform: Platform, call_id: str) -> bytes:
    answer = platform.request("GET", f"/async-function/{call_id}/result?wait=20s", login=False)
    assert answer.status == 200, answer
    return answer.body


def test_platforms_share_calls_and_refuse_them_while_the_server_is_away(tmp_path: Path) -> None:
    needs_redis()
    homes = tmp_path / "one", tmp_path / "other"
    for home in homes:
        home.mkdir()
    with RedisServer() as server:
        flags = ("--queue", server.settings.url, "--queue-name", "shared")
        with running(homes[0], *flags) as one, running(homes[1], *flags) as other:
            for platform in (one, other):
                platform.deploy("echo", ECHO)
            long = b"x" * 300_000
            ids = [submit(one, body)["x-call-id"] for body in (b"short", long, *[b"more"] * 30)]
            assert [result(other, call_id) for call_id in ids[:3]] == [b"short", long, b"more"]
            assert all(result(one, call_id) == b"more" for call_id in ids[3:])
            server.kill()
            began = time.monotonic()
            assert submit(one, b"refused", 503)["retry-after"]
            assert time.monotonic() - began < 15
            assert one.call("echo", b"at once").text == "at once"
            server.start()
            call_id = until(lambda: one.request("POST", "/async-function/echo", b"again").headers.get("x-call-id"))
            assert result(other, call_id) == b"again"
            assert not (homes[0] / "data" / "queue.db").exists()
