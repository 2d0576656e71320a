"""SIGTERM: what was accepted is served, then the process ends. On both servers."""

from __future__ import annotations

import signal
import socket
import threading

from tests.runtime_templates.replica import StartReplica, read_all, wait_until
from tests.runtime_templates.test_calls import slow

GET = b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\n"


def test_an_idle_replica_ends_at_once(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define))
    client = replica.connect()
    client.sendall(GET)
    assert b"quick" in client.recv(1000)
    replica.terminate()
    assert replica.wait() == 0
    assert read_all(client) == b""


def test_a_call_in_flight_finishes(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define))
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    replica.wait_for_log("in call")
    ready = replica.connect()
    ready.sendall(b"GET /_/ready HTTP/1.1\r\nHost: h\r\n\r\n")
    assert ready.recv(1000).startswith(b"HTTP/1.1 200 ")
    replica.terminate()
    assert read_all(ready) == b""  # it is draining now
    (replica.folder / "go").touch()
    answer = read_all(client)
    assert answer.endswith(b"slow") and b"connection: close\r\n" in answer.lower()
    assert replica.wait() == 0


def test_calls_sent_before_the_drain_are_served(start_replica: StartReplica, define: str) -> None:
    """Stopped while they arrive, the process finds the signal, the backlog and the calls all at once."""
    replica = start_replica(slow(define))
    idle = replica.connect()
    idle.sendall(GET)
    assert b"quick" in idle.recv(1000)
    replica.process.send_signal(signal.SIGSTOP)
    idle.sendall(GET)
    fresh = [replica.connect() for _ in range(5)]
    for client in fresh:
        client.sendall(GET)
    replica.terminate()
    replica.process.send_signal(signal.SIGCONT)
    for client in (idle, *fresh):
        assert read_all(client).endswith(b"quick")
    assert replica.wait() == 0


def test_a_connection_just_opened_gets_a_moment_for_its_call(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define))
    idle, fresh = replica.connect(), replica.connect()
    idle.sendall(GET)
    assert b"quick" in idle.recv(1000)
    replica.terminate()
    assert read_all(idle) == b""  # it is draining now
    assert replica.send(GET, client=fresh).endswith(b"quick")
    assert replica.wait() == 0


def test_a_second_signal_ends_the_wait(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define))
    client, idle = replica.connect(), replica.connect()
    idle.sendall(GET)
    assert b"quick" in idle.recv(1000)
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    replica.wait_for_log("in call")
    replica.terminate()
    assert read_all(idle) == b""
    replica.terminate()
    assert replica.wait() == 1


def test_a_call_that_does_not_end_is_waited_for_only_so_long(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), exec_timeout="300ms")
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    replica.wait_for_log("in call")
    replica.terminate()
    assert read_all(client).startswith(b"HTTP/1.1 504 ")
    wait_until(lambda: replica.process.poll() is not None, "its end")


def test_under_load_no_call_that_was_sent_is_lost(start_replica: StartReplica, define: str) -> None:
    """A client's last `send` may fail, and then it knows; a call that it could send is answered."""
    replica = start_replica(slow(define))
    answered: list[int] = []
    lost: list[bytes] = []

    def call_until_the_end(client: socket.socket) -> None:
        calls = 0
        while True:
            try:
                client.sendall(GET)
            except (BrokenPipeError, ConnectionResetError):
                break
            answer = client.recv(4096)
            if not answer.endswith(b"quick"):
                lost.append(answer)
                break
            calls += 1
            if b"connection: close" in answer.lower():
                break
        answered.append(calls)

    threads = [threading.Thread(target=call_until_the_end, args=(replica.connect(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: replica.call("/quick").status == 200, "an answer under load")
    replica.terminate()
    for thread in threads:
        thread.join(10)
    assert replica.wait() == 0
    assert lost == []
    assert len(answered) == 8 and sum(answered) > 8
