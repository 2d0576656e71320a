"""Scaling with the load, live: up at once, down when it is over, and no call lost."""

from __future__ import annotations

import concurrent.futures
import json
import threading
from typing import Any

from tests.end_to_end.platform import Platform, until

SLOW = "import time\ndef handle(event, context):\n    time.sleep(0.1)\n    return event.body\n"


def labels(**given: str) -> list[str]:
    return [part for key, value in given.items() for part in ("--label", f"com.openfaas.scale.{key.replace('_', '-')}={value}")]


def scaling(platform: Platform, name: str) -> dict[str, Any]:
    answer = platform.request("GET", f"/api/v1/functions/{name}/scaling")
    assert answer.status == 200, answer
    told: dict[str, Any] = answer.json()
    return told


def test_a_step_of_load_has_its_replicas_and_loses_no_call(platform: Platform) -> None:
    """16 callers, 2 calls a replica, an aim of 1.4: 12 replicas; then idle for a second: none."""
    limits = labels(max="12", zero="true", **{"zero-duration": "1s"})
    platform.deploy("step", SLOW, "--label", "com.pinnace.concurrency=2", *limits)
    over = threading.Event()

    def calls(number: int) -> int:
        done = 0
        while not over.is_set():
            answer = platform.call("step", str(number))
            assert (answer.status, answer.text) == (200, str(number)), answer
            done += 1
        return done

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(calls, n) for n in range(16)]
        try:
            until(lambda: platform.status("step").get("availableReplicas") == 12, within_s=60)
        finally:
            over.set()
        assert all(caller.result() for caller in callers)
    until(lambda: not platform.status("step").get("replicas"), within_s=60)
    changes = scaling(platform, "step")["changes"]
    assert (changes[0]["rule"], changes[0]["replicas"]) == ("idle", 0)
    assert {"backlog", "panic", "max"} & {change["rule"] for change in changes}
    described = platform.faas("describe", "step").stdout
    assert "zero after 1s" in described
    assert platform.call("step", "again").text == "again"


def test_cpu_decides_where_it_is_the_metric(platform: Platform) -> None:
    busy = "import time\ndef handle(event, context):\n    until = time.time() + 0.2\n    while time.time() < until: pass\n"
    platform.deploy("busy", busy, *labels(type="cpu", target="200", max="3"))
    over = threading.Event()

    def calls() -> None:
        while not over.is_set():
            assert platform.call("busy").status == 200

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(calls) for _ in range(2)]
        try:
            until(lambda: (platform.status("busy").get("replicas") or 0) > 1, within_s=60)
        finally:
            over.set()
        for caller in callers:
            caller.result()
    assert "m of CPU" in scaling(platform, "busy")["changes"][0]["reason"]


def test_what_contradicts_itself_is_refused_at_deploy(platform: Platform) -> None:
    for ours, theirs in (({"min": "2"}, {"min-scale": "3"}), ({"type": "rps"}, {"metric": "concurrency"})):
        spec = {
            "service": "odd",
            "image": "x",
            "labels": {f"com.openfaas.scale.{key}": value for key, value in ours.items()},
            "annotations": {f"autoscaling.knative.dev/{key}": value for key, value in theirs.items()},
        }
        answer = platform.request("PUT", "/system/functions", json.dumps(spec))
        assert answer.status == 400, answer
        assert "contradicts" in answer.text
