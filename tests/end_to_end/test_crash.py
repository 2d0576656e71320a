"""`kill -9` of anything: nothing acknowledged is lost, nothing is left behind."""

from __future__ import annotations

import concurrent.futures
import os
import signal

from tests.end_to_end.platform import Platform, alive, until

ECHO = "def handle(event, context):\n    return event.body\n"
DAEMON = """
import os, pathlib, subprocess, sys, time

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
note = pathlib.Path(os.environ["TMPDIR"], "daemon.pid")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note.write_text(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()

def handle(event, context):
    while not note.exists():
        time.sleep(0.01)
    return f"{os.getpid()},{child.pid},{note.read_text()}"
"""


def test_every_function_answers_again_after_kill_9(own_platform: Platform) -> None:
    platform = own_platform
    platform.faas("secret", "create", "word", "--from-literal", "swordfish")
    platform.deploy("plain", ECHO)
    platform.deploy("asleep", ECHO)
    platform.scale("asleep", 0)
    reads = "import os\ndef handle(e, c):\n    return open(os.environ['secret_mount_path'] + '/word').read()\n"
    platform.deploy("keeper", reads, "--secret", "word")
    before = {name: platform.details(name)["revisions"] for name in ("plain", "asleep", "keeper")}
    platform.kill()
    platform.start()
    assert not platform.status("asleep").get("replicas")
    assert {name: platform.details(name)["revisions"] for name in before} == before
    for name in ("plain", "asleep"):
        assert platform.call(name, "x").text == "x"
    assert platform.call("keeper").text == "swordfish"


def test_nothing_outlives_the_platform(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("daemon", DAEMON)
    pids = [int(pid) for pid in platform.call("daemon").text.split(",")]
    assert len(pids) == 3, "the replica, its child and its daemon"
    assert all(alive(pid) for pid in pids)
    platform.kill()
    until(lambda: not any(alive(pid) for pid in pids))


def test_nothing_outlives_a_clean_stop(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("daemon", DAEMON)
    pids = [int(pid) for pid in platform.call("daemon").text.split(",")]
    assert platform.stop(within_s=10) == 0
    assert not any(alive(pid) for pid in pids)


def test_a_killed_replica_costs_only_its_calls_in_flight(platform: Platform) -> None:
    platform.deploy("victim", "import time\ndef handle(event, context):\n    time.sleep(0.05)\n    return event.body\n")
    platform.scale("victim", 2)
    until(lambda: platform.status("victim").get("availableReplicas") == 2)
    pids = platform.pids("victim")

    def call(n: int) -> int:
        return platform.call("victim", str(n)).status

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, n) for n in range(400)]
        until(lambda: sum(c.done() for c in calls) > 60)
        os.kill(pids[0], signal.SIGKILL)
        codes = [c.result() for c in calls]
    failed = [code for code in codes if code != 200]
    assert len(failed) <= 8, "at most the calls that the replica had in flight"
    assert set(failed) <= {502}
    until(lambda: platform.status("victim").get("availableReplicas") == 2)


def test_a_replica_that_keeps_dying_is_shown_with_its_last_words(platform: Platform) -> None:
    platform.deploy("dying", "import os\ndef handle(event, context):\n    print('goodbye', flush=True)\n    os._exit(7)\n")
    for _ in range(3):
        platform.call("dying")
    replica = until(lambda: next((r for r in platform.details("dying")["replicas"] if r["state"] == "CrashLoopBackOff"), None))
    assert "7" in replica["reason"]
    assert replica["restarts"] >= 1
