"""Who leads: what the leader learns of its calls, and real replicas whose handlers keep their thread."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pinnace_runtime import leadership as leadership_module
from pinnace_runtime.leadership import FEWEST_APART, MOST_APART, Leadership, _Follower
from pinnace_runtime.thread_connection import Connection

from tests.runtime_templates.replica import Replica, StartReplica, read_all, wait_until


def leadership() -> Leadership:
    return Leadership(lambda: None, lambda call: None)


@pytest.mark.parametrize(
    ("took_s", "waited_s", "apart"),
    [
        (20e-6, 0.0, False),
        (20e-6, 20e-6, False),
        (100e-6, 95e-6, True),
        (300e-6, 280e-6, True),
        (300e-6, 20e-6, False),
        (0.005, 0.0, False),
        (0.005, 0.0001, False),
        (0.1, 0.1, True),
    ],
)
def test_calls_run_apart_where_they_wait_for_long(took_s: float, waited_s: float, apart: bool) -> None:
    leader = leadership()
    for _ in range(1000):
        leader.ran(took_s, waited_s)
    assert leader.apart is apart


@pytest.mark.parametrize(("one_in", "apart"), [(10, True), (200, False)])
def test_a_slow_call_now_and_then_is_only_overtaken(one_in: int, apart: bool) -> None:
    leader = leadership()
    for number in range(1, 2000):
        leader.ran(0.1, 0.1) if number % one_in == 0 else leader.ran(20e-6, 0.0)
    assert leader.apart is apart


def test_only_calls_that_take_their_time_are_weighed() -> None:
    leader = leadership()
    for _ in range(100):
        leader.ran(20e-6, 0.0)
    assert not leader.weighs
    for _ in range(100):
        leader.ran(300e-6, 0.0)
    assert leader.weighs


def calls_apart(leader: Leadership) -> int:
    """How many calls run apart until the leader tries to run them itself."""
    count = 0
    while leader.apart:
        leader.ran_apart()
        count += 1
    return count


def test_the_leader_tries_again_more_rarely_each_time_that_it_was_a_mistake() -> None:
    leader = leadership()
    apart = []
    for _ in range(12):
        while not leader.apart:
            leader.ran(0.1, 0.1)
        apart.append(calls_apart(leader))
    assert apart[:3] == [2 * FEWEST_APART, 4 * FEWEST_APART, 8 * FEWEST_APART]
    assert apart[-1] == MOST_APART
    for _ in range(2000):
        leader.ran(20e-6, 0.0)
    assert not leader.apart


HELD = """
import os, threading, time
barrier = threading.Barrier(20)
def handle(event, context):
    if event.path == "/quick":
        return "quick"
    if event.path == "/together":
        barrier.wait(8)
    while event.path == "/held" and not os.path.exists("go"):
        time.sleep(0.01)
    while event.path == "/busy" and not os.path.exists("go"):
        pass
    return event.path
"""


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


def ask(client: socket.socket, path: str) -> bytes:
    """Send one call on a connection that lasts; return the answer."""
    client.sendall(get(path))
    return client.recv(4096)


@pytest.mark.parametrize("path", ["/held", "/busy"])
def test_quick_calls_pass_one_that_holds_its_thread(start_replica: StartReplica, path: str) -> None:
    replica = start_replica(HELD)
    held, other = replica.connect(), replica.connect()
    held.sendall(get(path))
    assert [ask(other, "/quick")[-5:] for _ in range(20)] == [b"quick"] * 20
    assert replica.call("/_/health").status == 200
    (replica.folder / "go").touch()
    assert held.recv(4096).endswith(path.encode())
    assert ask(held, "/quick").endswith(b"quick")


def together(replica: Replica, clients: list[socket.socket]) -> None:
    """Twenty calls, each of which waits until all are there."""
    for client in clients:
        client.sendall(get("/together"))
    for client in clients:
        assert client.recv(4096).endswith(b"/together")


def test_slow_calls_run_side_by_side_and_their_connections_go_on(start_replica: StartReplica) -> None:
    replica = start_replica(HELD, max_inflight="20")
    clients = [replica.connect() for _ in range(20)]
    for _ in range(30):  # from the first, which are overtaken, to those that run apart, and on to the leader's next try
        together(replica, clients)
    assert [ask(client, "/quick")[-5:] for client in clients * 20] == [b"quick"] * 400


def test_more_than_max_inflight_are_refused_while_all_threads_are_held(start_replica: StartReplica) -> None:
    replica = start_replica(HELD, max_inflight="20")
    clients = [replica.connect() for _ in range(20)]
    together(replica, clients)
    for client in clients:
        client.sendall(get("/held"))
    wait_until(lambda: replica.call("/quick").status == 429, "all places taken")
    assert replica.call("/_/ready").status == 200
    (replica.folder / "go").touch()
    for client in clients:
        assert client.recv(4096).endswith(b"/held")


@pytest.mark.parametrize("path", ["/held", "/busy"])
@pytest.mark.parametrize("limit", ["100us", "60ms"])
def test_a_call_that_holds_the_leader_is_answered_504_in_time(start_replica: StartReplica, path: str, limit: str) -> None:
    replica = start_replica(HELD)
    began = time.monotonic()
    answer = replica.call(path, X_Timeout=limit)
    assert (answer.status, answer.headers["x-openfaas-internal"]) == (504, "runtime")
    assert time.monotonic() - began < 10
    assert replica.call("/quick").status == 200


def test_the_drain_finds_threads_that_stay_with_their_connections(start_replica: StartReplica) -> None:
    replica = start_replica(HELD)
    clients = [replica.connect() for _ in range(20)]
    together(replica, clients)
    clients[0].sendall(get("/held"))
    wait_until(lambda: replica.call("/quick").status == 200, "an answer")
    replica.terminate()
    for client in clients[1:]:
        assert read_all(client) == b""
    (replica.folder / "go").touch()
    assert read_all(clients[0]).endswith(b"/held")
    assert replica.wait() == 0


def test_calls_of_one_connection_stay_in_order_when_the_first_is_overtaken(start_replica: StartReplica) -> None:
    replica = start_replica(HELD)
    client = replica.connect()
    client.sendall(get("/held") + get("/quick") + b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert replica.call("/quick").status == 200
    (replica.folder / "go").touch()
    answers = read_all(client)
    assert [part.rpartition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200")[1:]] == [b"/held", b"quick", b"/last"]


def test_a_body_that_is_slow_to_come_holds_nobody(start_replica: StartReplica) -> None:
    replica = start_replica("def handle(event, context):\n    return event.body")
    slow, other = replica.connect(), replica.connect()
    slow.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nslow")
    for _ in range(20):
        assert ask(other, "/").startswith(b"HTTP/1.1 200 ")
    slow.sendall(b"body")
    assert slow.recv(4096).endswith(b"slowbody")


def test_a_client_that_does_not_read_holds_nobody(start_replica: StartReplica) -> None:
    replica = start_replica("def handle(event, context):\n    return b'x' * int(event.path[1:])")
    slow, other = replica.connect(), replica.connect()
    slow.sendall(get("/8000000"))
    for _ in range(20):
        assert ask(other, "/1").endswith(b"x")
    head, _, body = slow.recv(1000).partition(b"\r\n\r\n")
    received = len(body)
    while received < 8_000_000:
        received += len(slow.recv(1 << 20))
    assert head.startswith(b"HTTP/1.1 200 ") and received == 8_000_000
    assert ask(slow, "/1").endswith(b"x")


def test_each_call_has_a_context_of_its_own(start_replica: StartReplica) -> None:
    replica = start_replica("""
from contextvars import ContextVar
user = ContextVar("user", default="nobody")
def handle(event, context):
    before = user.get()
    user.set(event.path)
    def pieces():
        yield before + " " + user.get()
    return pieces() if event.path == "/stream" else before
""")
    client = replica.connect()
    assert [ask(client, "/quick")[-6:] for _ in range(3)] == [b"nobody"] * 3
    assert replica.call("/stream").body == b"nobody /stream"


def test_where_threads_run_out_calls_wait_for_one(start_replica: StartReplica) -> None:
    replica = start_replica("""
import resource, time
resource.setrlimit(resource.RLIMIT_DATA, (16 << 20, 16 << 20))
def handle(event, context):
    time.sleep(0.02)
    return "x"
""")
    with ThreadPoolExecutor(40) as pool:
        assert [answer.status for answer in pool.map(lambda _: replica.call("/"), range(80))] == [200] * 80


def test_answers_go_to_who_asked_whoever_leads(start_replica: StartReplica) -> None:
    """Calls of 0 to 2 ms, just where leaders are overtaken, on connections that last."""
    replica = start_replica("""
import random, time
def handle(event, context):
    time.sleep(random.choice((0, 0, 0, 0.0004, 0.0006, 0.001, 0.002)))
    return {"path": event.path, "call": context.call_id}
""")
    wrong: list[bytes] = []

    def call(number: int) -> None:
        client = replica.connect()
        for turn in range(150):
            name = f"{number}-{turn}"
            client.sendall(f"GET /{name} HTTP/1.1\r\nHost: h\r\nX-Call-Id: {name}\r\n\r\n".encode())
            answer = client.recv(4096)
            if json.loads(answer.rpartition(b"\r\n\r\n")[2] or b"null") != {"path": f"/{name}", "call": name}:
                wrong.append(answer)
                return

    threads = [threading.Thread(target=call, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert replica.log == []


def test_only_its_own_call_ends_a_turn() -> None:
    """One thread leads: an overtaken thread that comes back must not take the token of the call that runs now."""
    leader = leadership()
    first, second = object.__new__(Connection), object.__new__(Connection)
    assert leader.begin(first)
    assert leader._overtake(_Follower())
    assert leader.begin(second)
    assert not leader.end(first)
    assert leader.end(second)


class Stage:
    """A leadership whose new threads come when they are told to, or never: memory can run out before their first line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.born: list[tuple[Any, ...]] = []
        self.let_go: list[object] = []
        self.leads = threading.Semaphore(0)
        self._on = threading.Event()
        monkeypatch.setattr(leadership_module, "_thread", self)
        self.leader = Leadership(self._lead, self.let_go.append)
        self.leader.start(8)

    allocate_lock = staticmethod(threading.Lock)

    def start_new_thread(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.born.append((function, *arguments))

    def come(self) -> None:
        """Have the thread that was started last run."""
        function, *arguments = self.born.pop()
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _lead(self) -> None:
        self.leads.release()
        self._on.wait(10)


def test_leadership_is_never_given_to_a_thread_that_has_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    call = object.__new__(Connection)
    stage.leader.apart = True
    assert stage.leader.begin(call)  # with nobody to lead meanwhile, it leads on
    assert stage.let_go == []
    stage.come()
    assert stage.leads.acquire(timeout=10)  # the new one overtakes as soon as it is there
    assert stage.let_go == [call]
    assert not stage.leader.end(call)


def test_a_thread_that_died_before_it_came_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    call = object.__new__(Connection)
    stage.leader.apart = True
    stage.born.clear()
    for _ in range(2):
        assert stage.leader.begin(call)
        assert stage.leader.end(call)
    assert stage.born == []  # it may still come
    later = time.monotonic() + 2 * leadership_module.ARRIVES_WITHIN_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert stage.leader.begin(call)
    assert len(stage.born) == 1


def test_a_leader_leads_on_after_an_exception() -> None:
    led = threading.Semaphore(0)
    outcomes = [MemoryError(), MemoryError(), None]

    def lead() -> None:
        led.release()
        if outcome := outcomes.pop(0):
            raise outcome
        threading.Event().wait()  # such a thread holds up no exit

    Leadership(lead, lambda call: None).start(2)
    assert all(led.acquire(timeout=10) for _ in range(3))


def test_what_fails_before_it_is_begun_leaves_no_turn_behind(start_replica: StartReplica) -> None:
    """A watch that finds such a turn takes whatever connection has its number by then out of the leader's hands."""
    replica = start_replica("""
from pinnace_runtime import leadership
def handle(event, context):
    return "x"
begin = leadership.Leadership.begin
calls = 0
def failing(self, call):
    global calls
    calls += 1
    if calls % 2:
        self.watch(call)
        raise MemoryError
    return begin(self, call)
leadership.Leadership.begin = failing
""")
    for _ in range(20):
        client = replica.connect()
        client.sendall(get("/"))
        assert client.recv(4096) == b""
        client = replica.connect()
        time.sleep(4 * leadership_module.TICK_S)
        client.sendall(get("/"))
        assert client.recv(4096).endswith(b"x")
        client.close()
