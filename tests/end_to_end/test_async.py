"""Asynchronous calls on a real platform: what was answered 202 is carried out, whatever is killed."""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.platform import Answer, Platform, running, until

NOTES = """
import time

def handle(event, context):
    print("seen", context.call_id, flush=True)
    time.sleep(0.02)
    return event.body
"""
PROMPT = ("--annotation", "com.openfaas.retry.min_wait=50ms", "--annotation", "com.openfaas.retry.max_wait=100ms")


@pytest.fixture(params=[(), ("--workers", "2")], ids=["one", "fleet"])
def either_platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    """A platform that the test may kill, of one process and of several."""
    with running(tmp_path, *request.param) as platform:
        yield platform


def submit(platform: Platform, name: str, path: str = "", body: bytes = b"", **headers: str) -> str:
    told = {key.replace("_", "-"): text for key, text in headers.items()}
    answer = platform.request("POST", f"/async-function/{name}{path}", body, told, login=False)
    assert answer.status == 202, answer
    return answer.headers["x-call-id"]


def ended(platform: Platform, call_id: str) -> dict[str, object]:
    answer = platform.request("GET", f"/async-function/{call_id}?wait=20s", login=False)
    assert answer.status == 200, answer
    told: dict[str, object] = answer.json()
    return told


def seen(platform: Platform, name: str) -> list[str]:
    """The calls that the function's log tells of."""
    lines = platform.request("GET", f"/system/logs?name={name}&follow=false&since=2020-01-01T00:00:00Z").text.splitlines()
    texts = [json.loads(line)["text"].split() for line in lines]
    return [words[1] for words in texts if words[:1] == ["seen"]]


def test_calls_outlive_kill_9_and_each_is_carried_out(either_platform: Platform) -> None:
    platform = either_platform
    platform.deploy("notes", NOTES, *PROMPT)
    accepted: list[str] = []

    def send() -> None:
        for _ in range(40):
            try:
                accepted.append(submit(platform, "notes"))
            except (OSError, ValueError):
                return

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(send)
        until(lambda: len(accepted) >= 40)
        platform.kill()
    platform.start()
    accepted.append(submit(platform, "notes"))
    states = [ended(platform, call_id)["state"] for call_id in accepted]
    assert states == ["succeeded"] * len(accepted)
    until(lambda: set(accepted) <= set(seen(platform, "notes")))
    done = [call_id for call_id in seen(platform, "notes") if call_id in accepted]
    assert len(done) - len(set(done)) <= 40, "only what ran when it was killed may have run twice"


def test_a_stop_gives_back_what_runs(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("slow", "import time\ndef handle(e, c):\n    time.sleep(float(e.body))\n    return 'done'\n")
    call_id = submit(platform, "slow", body=b"30")
    until(lambda: platform.request("GET", f"/async-function/{call_id}").json()["state"] == "running")
    began = time.monotonic()
    assert platform.stop(20) == 0
    assert time.monotonic() - began < 12
    platform.start()
    told: Answer = until(lambda: (a := platform.request("GET", f"/async-function/{call_id}")).json()["attempts"] and a)
    assert (told.json()["state"], told.json()["attempts"]) == ("running", 1)
    assert platform.request("DELETE", f"/async-function/{call_id}").status == 202


def test_a_function_at_zero_wakes_for_a_call_that_is_due(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("sleeper", "def handle(e, c):\n    return e.body\n", "--label", "com.openfaas.scale.zero=true")
    platform.scale("sleeper", 0)
    until(lambda: not platform.pids("sleeper"))
    call_id = submit(platform, "sleeper", body=b"x" * 100_000, X_Delay_Seconds="0.3")
    told = ended(platform, call_id)
    assert told["state"] == "succeeded", json.dumps(told)
    result = platform.request("GET", f"/async-function/{call_id}/result", login=False)
    assert (result.status, result.body) == (200, b"x" * 100_000)
