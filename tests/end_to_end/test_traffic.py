"""Traffic that moves under load: a rollout, a split, a rollback, a gradual rollout to its end and one that is given up."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.platform import Answer, Platform, running, until

VERSION = "def handle(event, context):\n    return {version!r}\n"
FAILING = "def handle(event, context):\n    return {'statusCode': 500, 'body': 'v%s'}\n"
QUICK = ("--annotation", "com.pinnace.rollout.steps=10,50")


class Load:
    """Calls one after the other on each of a few threads, until it is stopped; `answers` are counted by status and body."""

    def __init__(self, platform: Platform, name: str, threads: int = 4) -> None:
        self.answers: collections.Counter[tuple[int, str]] = collections.Counter()
        self._platform, self._name = platform, name
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._platform.call(self._name)
            self.answers[answer.status, answer.text] += 1
            time.sleep(0.004)

    def others(self, *expected: tuple[int, str]) -> dict[tuple[int, str], int]:
        """Return the answers that are none of `expected`."""
        return {answer: count for answer, count in self.answers.items() if answer not in expected}


def shares(platform: Platform, name: str) -> dict[str, int]:
    return {t["revision"]: t["percent"] for t in platform.details(name)["traffic"] if t["percent"]}


def test_no_call_is_lost_when_traffic_moves(platform: Platform) -> None:
    platform.deploy("moving", VERSION.format(version="v1"))
    good = [(200, f"v{n}") for n in range(1, 6)]
    with Load(platform, "moving").running() as load:
        platform.deploy("moving", VERSION.format(version="v2"))
        platform.faas("traffic", "moving", "1=50", "2=50")
        before = load.answers.copy()
        until(lambda: all((load.answers - before)[answer] > 20 for answer in good[:2]))
        platform.faas("rollback", "moving", "--to", "1")
        (platform.home / "moving" / "handler.py").write_text(VERSION.format(version="v3"))
        done = platform.faas("deploy", platform.home / "moving", "--name", "moving", "--lang", "python3-http")
        assert "moving-00003 gets no calls: traffic is set by hand (faas promote moving moves it)" in done.stderr
        platform.faas("promote", "moving")
        until(lambda: load.answers[200, "v3"] > 20)
        platform.deploy("moving", VERSION.format(version="v4"), *QUICK, "--gradual", "2s")
        assert shares(platform, "moving") == {"moving-00003": 90, "moving-00004": 10}
        until(lambda: shares(platform, "moving") == {"moving-00004": 100})
        platform.deploy("moving", VERSION.format(version="v5"), *QUICK, "--gradual", "2s", "--wait")
        assert shares(platform, "moving") == {"moving-00005": 100}
        until(lambda: load.answers[200, "v4"] > 20)
    assert load.others(*good) == {}
    assert load.answers[200, "v2"] > 20


def test_a_rollout_that_fails_is_given_up_and_says_why(platform: Platform) -> None:
    platform.deploy("failing", VERSION.format(version="v1"))
    with Load(platform, "failing").running() as load:
        folder = platform.home / "failing"
        (folder / "handler.py").write_text(FAILING % 2)
        rollout = ("--name", "failing", "--lang", "python3-http", *QUICK, "--gradual", "60s", "--wait")
        done = platform.faas("deploy", folder, *rollout, check=False)
        assert done.returncode == 1
        assert "Error: failing: failing-00002: given up at 10 % of the calls: " in done.stderr
        until(lambda: shares(platform, "failing") == {"failing-00001": 100})
        given_up = load.answers[500, "v2"]
        before = load.answers[200, "v1"]
        until(lambda: load.answers[200, "v1"] > before + 50)
    assert load.others((200, "v1"), (500, "v2")) == {}
    assert given_up <= load.answers[500, "v2"] <= given_up + 4, "all calls went back at once"
    condition = platform.details("failing")["condition"]
    assert condition["phase"] == "Failed"
    assert condition["message"].startswith("failing-00002: given up at 10 % of the calls: ")
    assert "calls failed (100 %)" in condition["message"]
    assert "given up at 10 %" in platform.faas("describe", "failing").stdout
    metrics = platform.request("GET", "/metrics").text
    assert 'pinnace_rollouts_total{function_name="failing.openfaas-fn",outcome="aborted"} 1' in metrics


def test_a_tag_at_zero_percent_is_woken_by_its_call(platform: Platform) -> None:
    platform.deploy("coloured", VERSION.format(version="blue"))
    platform.deploy("coloured", VERSION.format(version="green"), "--no-traffic", "--tag", "green")

    def tagged() -> Answer:
        return platform.call("coloured", X_Pinnace_Tag="green")

    assert (platform.call("coloured").text, tagged().text) == ("blue", "green")
    assert platform.call("coloured--green").text == "green"
    waiting = platform.request("POST", "/async-function/coloured", b"", {"X-Pinnace-Tag": "green"})
    result = platform.request("GET", f"/async-function/{waiting.headers['x-call-id']}/result?wait=20s")
    assert result.text == "green"
    missing = platform.call("coloured--red")
    assert (missing.status, "its tags are green" in missing.text) == (404, True)
    platform.faas("promote", "coloured")
    platform.faas("traffic", "coloured", "--tag", "old=1", "--untag", "green")
    until(lambda: {r["revision"] for r in platform.details("coloured")["replicas"]} == {"coloured-00002"})
    assert platform.call("coloured--old").text == "blue"
    assert platform.call("coloured").text == "green"


def test_a_step_survives_a_crash_and_edges_in_processes_of_their_own_count_too(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as platform:
        platform.deploy("durable", VERSION.format(version="v1"))
        platform.deploy("durable", FAILING % 2, *QUICK, "--gradual", "600s")
        platform.kill()
        platform.start()
        assert shares(platform, "durable") == {"durable-00001": 90, "durable-00002": 10}
        assert "durable-00002 gets 10 % of the calls (step 1 of 2)" in platform.details("durable")["condition"]["message"]
        with Load(platform, "durable").running() as load:
            until(lambda: shares(platform, "durable") == {"durable-00001": 100})
        assert load.others((200, "v1"), (500, "v2")) == {}
