"""`faas serve --workers N`: several edge processes behave as one, also when they or the control process are killed."""

from __future__ import annotations

import concurrent.futures
import functools
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.platform import Platform, alive, running, until
from tests.end_to_end.test_start_and_stop import refused

ECHO = "def handle(event, context):\n    return event.body\n"
ALONE = """\
import fcntl, time

def handle(event, context):
    with open("/tmp/one-at-a-time", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return "overlap"
        print("begun", flush=True)
        time.sleep(float(event.body or 0.002))
        return "alone"
"""
ONE = ("--label", "com.pinnace.concurrency=1")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("workers"), "--workers", "2") as platform:
        yield platform


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[Platform]:
    with running(tmp_path, "--workers", "2") as platform:
        yield platform


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(platform: Platform) -> list[int]:
    """The edge processes that have become what they are."""
    assert platform.process is not None
    found = []
    for child in children(platform.process.pid):
        try:
            if b"gateway.edge.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except FileNotFoundError:
            continue
    return found


def gone(pid: int) -> bool:
    """Whether the process has ended with all its threads: as long as one is left, its sockets take connections."""
    return not Path(f"/proc/{pid}").exists()


def edges_seen(platform: Platform, name: str) -> set[str]:
    """Which edges answer calls, by what their call ids begin with; each call comes over a new connection."""
    seen: set[str] = set()
    for _ in range(40):
        answer = platform.call(name, b"")
        assert answer.status == 200, answer
        seen.add(answer.headers["x-call-id"][:23])
    return seen


def invocations(platform: Platform, name: str) -> int:
    functions = platform.request("GET", "/system/functions").json()
    return int(next(f.get("invocationCount", 0) for f in functions if f["name"] == name))


def test_every_worker_serves_every_function_and_all_calls_are_counted(platform: Platform) -> None:
    platform.deploy("echo", ECHO)
    assert len(workers(platform)) == 2
    assert len(edges_seen(platform, "echo")) == 2
    until(lambda: invocations(platform, "echo") == 40, 5)


def test_what_was_deployed_can_be_called_at_once_through_any_worker(platform: Platform) -> None:
    platform.deploy("first", ECHO)
    image = platform.status("first").get("image") or platform.details("first")["image"]
    for number in range(10):
        body = json.dumps({"service": f"quick{number}", "image": image})
        assert platform.request("POST", "/system/functions", body).status == 202
        answers = [platform.call(f"quick{number}", "x").status for _ in range(4)]
        assert answers == [200] * 4
        assert platform.request("DELETE", "/system/functions", json.dumps({"functionName": f"quick{number}"})).status == 202
        assert [platform.call(f"quick{number}").status for _ in range(4)] == [404] * 4


def test_a_limit_of_one_holds_over_all_workers(platform: Platform) -> None:
    platform.deploy("alone", ALONE, *ONE)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = Counter(a.text for a in pool.map(lambda _: platform.call("alone"), range(300)))
    assert answers == {"alone": 300}


def test_all_slots_can_be_used_through_one_worker(platform: Platform) -> None:
    code = "import threading\nall_here = threading.Barrier(8)\ndef handle(e, c):\n    all_here.wait(10)\n    return 'met'\n"
    platform.deploy("meeting", code, "--label", "com.pinnace.concurrency=8")
    seen: dict[str, list[http.client.HTTPConnection]] = {}
    while not any(len(connections) == 8 for connections in seen.values()):
        connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=20)
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        seen.setdefault((response.headers["X-Call-Id"] or "")[:23], []).append(connection)
    of_one = next(connections for connections in seen.values() if len(connections) == 8)
    for connection in of_one:
        connection.request("GET", "/function/meeting")
    assert [connection.getresponse().read() for connection in of_one] == [b"met"] * 8
    for connections in seen.values():
        for connection in connections:
            connection.close()


def test_a_function_at_zero_wakes_through_any_worker(platform: Platform) -> None:
    platform.deploy("sleepy", ECHO)
    seen: set[str] = set()
    while len(seen) < 2:
        platform.scale("sleepy", 0)
        until(lambda: not platform.pids("sleepy"))
        answer = platform.call("sleepy", "awake")
        assert (answer.status, answer.text) == (200, "awake")
        seen.add(answer.headers["x-call-id"][:23])


def test_a_function_that_only_some_workers_saw_goes_to_zero(platform: Platform) -> None:
    labels = ["--label", "com.openfaas.scale.zero=true", "--label", "com.openfaas.scale.zero-duration=1s"]
    platform.deploy("dozy", ECHO, *labels)
    assert len(edges_seen(platform, "dozy")) == 2
    until(lambda: not platform.pids("dozy"))


def test_no_call_is_lost_while_replicas_come_and_go(platform: Platform) -> None:
    platform.deploy("churn", "import time\ndef handle(event, context):\n    time.sleep(0.01)\n    return event.body\n", *ONE)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(platform.call, "churn", str(n)) for n in range(400)]
        for replicas in (3, 1, 0, 2):  # while calls wait the autoscaler soon has another opinion
            before = set(platform.pids("churn"))
            platform.scale("churn", replicas)
            until(functools.partial(others, platform, before))
        answers = [call.result() for call in calls]
    assert [(a.status, a.text) for a in answers] == [(200, str(n)) for n in range(400)]


def others(platform: Platform, before: set[int]) -> bool:
    """Whether a process has come or gone."""
    return set(platform.pids("churn")) != before


def test_a_worker_killed_under_load_breaks_its_own_connections_only(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("alone", ALONE, *ONE)
    victim, survivor = workers(platform)
    stop = threading.Event()

    def client() -> tuple[Counter[str], Counter[str]]:
        """Call over one connection after another; returns answers and broken connections by edge."""
        answers: Counter[str] = Counter()
        broken: Counter[str] = Counter()
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=20)
            edge = "unknown"
            try:
                while not stop.is_set():
                    connection.request("POST", "/function/alone", b"0.05")
                    response = connection.getresponse()
                    text = response.read().decode()
                    edge = (response.headers["X-Call-Id"] or "")[:23]
                    answers[f"{response.status} {text}"] += 1
            except (OSError, http.client.HTTPException):
                broken[edge] += 1
            finally:
                connection.close()
        return answers, broken

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client) for _ in range(6)]
        try:
            until(lambda: invocations(platform, "alone") >= 20)
            counted = invocations(platform, "alone")
            os.kill(victim, signal.SIGKILL)
            until(lambda: gone(victim))
            until(lambda: len(workers(platform)) == 2 and victim not in workers(platform))
            until(lambda: invocations(platform, "alone") >= counted + 20)
        finally:
            stop.set()
        results = [c.result(30) for c in clients]
    answers = sum((a for a, _ in results), Counter[str]())
    broken = sum((b for _, b in results), Counter[str]())
    assert set(answers) == {"200 alone"}, answers
    assert len(broken.keys() - {"unknown"}) <= 1, f"connections of more than one edge broke: {broken}"
    assert survivor in workers(platform)
    until(lambda: len(edges_seen(platform, "alone")) == 2)
    lost_at_most = 10  # calls that ended within a tenth of a second before the kill
    assert invocations(platform, "alone") >= sum(answers.values()) - lost_at_most


def test_a_call_waits_while_one_of_a_killed_worker_still_runs(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("alone", ALONE, *ONE)
    with socket.create_connection(("127.0.0.1", platform.port)) as lost:
        lost.sendall(b"POST /function/alone HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n2")
        until(lambda: "begun" in platform.faas("logs", "alone").stdout)
        killed = workers(platform)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in killed))
        until(lambda: not _refuses(platform.port))
        answers = [platform.call("alone") for _ in range(3)]
    assert [(a.status, a.text) for a in answers] == [(200, "alone")] * 3


def _refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_nothing_outlives_a_killed_control_process(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("echo", ECHO)
    pids = workers(platform) + platform.pids("echo")
    assert len(pids) == 3
    platform.kill()
    until(lambda: not any(alive(pid) for pid in pids), 10)
    platform.start()
    assert platform.call("echo", "again").text == "again"


def test_a_stop_finishes_the_calls_in_flight(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("alone", ALONE)
    pids = workers(platform)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.call, "alone", b"2")
        until(lambda: "begun" in platform.faas("logs", "alone").stdout)
        began = time.monotonic()
        assert platform.stop(within_s=10) == 0
        assert time.monotonic() - began < 10
        assert call.result().text == "alone"
    assert not any(alive(pid) for pid in pids)


def test_a_call_that_does_not_end_does_not_hold_up_the_stop(own_platform: Platform) -> None:
    platform = own_platform
    platform.deploy("alone", ALONE)
    with socket.create_connection(("127.0.0.1", platform.port)) as sock:
        sock.sendall(b"POST /function/alone HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n60")
        until(lambda: "begun" in platform.faas("logs", "alone").stdout)
        assert platform.stop(within_s=10) == 0


def test_ctrl_c_in_a_terminal_ends_it_cleanly(own_platform: Platform) -> None:
    assert own_platform.process is not None
    pids = workers(own_platform)
    os.kill(own_platform.process.pid, signal.SIGINT)
    assert own_platform.process.wait(10) == 0
    assert not any(alive(pid) for pid in pids)
    assert "Traceback" not in own_platform.log()
    assert own_platform.process.stdout is not None
    own_platform.process.stdout.close()
    own_platform.process = None


def test_a_taken_port_is_named(tmp_path: Path, platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused(tmp_path, "--workers", "2", "--port", port, "--data-dir", str(tmp_path / "data"))
    port = str(platform.port)
    assert port in refused(tmp_path, "--workers", "2", "--port", port, "--data-dir", str(tmp_path / "data"))


def test_descriptors_are_raised_to_the_hard_limit(platform: Platform) -> None:
    for pid in workers(platform):
        limits = Path(f"/proc/{pid}/limits").read_text()
        soft, hard = next(line for line in limits.splitlines() if "open files" in line).split()[3:5]
        assert soft == hard
