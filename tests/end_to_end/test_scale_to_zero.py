from __future__ import annotations

import concurrent.futures
import functools

from tests.end_to_end.platform import Platform, until

ECHO = "def handle(event, context):\n    return event.body\n"


def test_an_idle_function_goes_to_zero_and_the_next_call_is_answered(platform: Platform) -> None:
    labels = ["--label", "com.openfaas.scale.zero=true", "--label", "com.openfaas.scale.zero-duration=1s"]
    platform.deploy("sleepy", ECHO, *labels)
    pids = platform.pids("sleepy")
    assert pids
    until(lambda: not platform.status("sleepy").get("replicas"))
    until(lambda: not platform.pids("sleepy"))
    assert platform.call("sleepy", "awake").text == "awake"
    assert platform.status("sleepy")["availableReplicas"] == 1


def test_calls_that_wait_at_zero_are_all_answered_in_time(platform: Platform) -> None:
    platform.deploy("crowd", ECHO)
    for _ in range(3):
        platform.scale("crowd", 0)
        assert not platform.status("crowd").get("replicas")
        until(lambda: not platform.pids("crowd"))
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda n: platform.call("crowd", str(n)), range(20)))
        assert [a.text for a in answers] == [str(n) for n in range(20)]


def test_a_floor_is_kept(platform: Platform) -> None:
    platform.deploy("floor", ECHO, "--label", "com.openfaas.scale.min=2")
    until(lambda: platform.status("floor").get("availableReplicas") == 2)
    platform.scale("floor", 0)
    until(lambda: not platform.pids("floor"))
    assert platform.call("floor", "x").text == "x"
    until(lambda: platform.status("floor").get("availableReplicas") == 2)


def test_no_call_is_lost_while_replicas_come_and_go(platform: Platform) -> None:
    platform.deploy("churn", "import time\ndef handle(event, context):\n    time.sleep(0.02)\n    return event.body\n")

    def call(n: int) -> bool:
        answer = platform.call("churn", str(n))
        return (answer.status, answer.text) == (200, str(n))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, n) for n in range(600)]
        for replicas in (4, 1, 3, 0, 2, 1):
            platform.scale("churn", replicas)
            wanted = {replicas, max(1, replicas)}
            until(functools.partial(settled, platform, wanted))
        assert all(c.result() for c in calls)


def settled(platform: Platform, wanted: set[int]) -> bool:
    """Whether the function has as many processes as one of `wanted`: a call may have woken it from zero already."""
    return len(platform.pids("churn")) in wanted


def test_a_cold_call_is_explained(platform: Platform) -> None:
    platform.deploy("explained", "def handle(e, c):\n    return 'woken'\n", "--label", "com.openfaas.scale.zero=true")
    platform.scale("explained", 0)
    until(lambda: not platform.pids("explained"))
    answer = platform.call("explained", X_Pinnace_Timing="1")
    assert answer.text == "woken"
    timing = answer.headers["server-timing"]
    assert timing.startswith("wait;dur=")
    assert 'desc="zygote"' in timing
    assert "run;dur=" in timing
    explained = platform.faas("explain", answer.headers["x-call-id"]).stdout
    assert "explained.openfaas-fn: 200 after" in explained
    assert "cold: a fork that had the handler imported" in explained
    assert "  fork" in explained
    assert "is not known" in platform.faas("explain", "nonesuch", check=False).stderr
