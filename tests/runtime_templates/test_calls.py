"""Calls to a running replica; each test runs on the thread server and on the loop server."""

from __future__ import annotations

import json
import time

import pytest

from tests.runtime_templates.replica import StartReplica, read_all, wait_until

ECHO = """
{define} handle(event, context):
    return {{"method": event.method, "path": event.path, "query": event.query.to_dict(), "body": event.body.decode(),
            "type": event.headers.get("Content-Type"), "hostname": context.hostname}}
"""


def test_a_call_reaches_the_handler_as_it_was_sent(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(ECHO.format(define=define), HOSTNAME="box")
    assert replica.notified == {"ready": True}
    answer = replica.call("/a%20b?x=1", b"body", method="PATCH", content_type="text/x")
    assert json.loads(answer.body) == {
        "method": "PATCH",
        "path": "/a b",
        "query": {"x": "1"},
        "body": "body",
        "type": "text/x",
        "hostname": "box",
    }
    assert answer.headers["content-type"] == "application/json" and "date" in answer.headers


def test_it_serves_on_tcp(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(ECHO.format(define=define), tcp=True)
    assert replica.call("/x").status == 200


def test_probes(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(ECHO.format(define=define), max_inflight="1")
    assert [replica.call(path).status for path in ("/_/health", "/_/ready", "/_/other")] == [200, 200, 200]
    assert replica.call("/_/ready", method="HEAD").body == b""


def test_bodies_of_any_kind_are_read_whole(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"{define} handle(event, context):\n    return str(len(event.body))")
    assert replica.call("/", b"x" * 3_000_000).body == b"3000000"
    chunks = b"".join(b"%x\r\n%b\r\n" % (n, b"x" * n) for n in (1, 70_000, 500))
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert replica.send(head + chunks + b"0\r\n\r\n").endswith(b"\r\n\r\n70501")


def test_calls_on_one_connection_follow_each_other(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"{define} handle(event, context):\n    return event.path + event.body.decode()")
    calls = [b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n-%d" % (n, n) for n in range(3)]
    last = b"\r\nGET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    answers = replica.send(b"".join(calls) + last)
    assert [answers.count(text) for text in (b"\r\n\r\n/0-0", b"\r\n\r\n/1-1", b"\r\n\r\n/2-2", b"\r\n\r\n/last")] == [1] * 4
    assert answers.count(b"Connection: close") + answers.count(b"connection: close") == 1


def test_100_continue_is_said_before_the_body(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"{define} handle(event, context):\n    return event.body")
    client = replica.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 4\r\n\r\n")
    assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert replica.send(b"body", client=client).endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000, 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
    ],
    ids=["line", "length and chunked", "chunk", "endless head", "large head", "version"],
)
def test_what_is_malformed_is_refused_and_ends_the_connection(
    start_replica: StartReplica, define: str, wire: bytes, status: int
) -> None:
    replica = start_replica(ECHO.format(define=define))
    answer = replica.send(wire)
    assert answer.startswith(b"HTTP/1.1 %d " % status) and answer.count(b"HTTP/1.1 %d " % status) == 1
    assert b"Connection: close\r\n" in answer and b"X-OpenFaaS-Internal: runtime\r\n" in answer
    assert replica.call("/").status == 200


STREAM = """
import time
def handle(event, context):
    def pieces():
        yield "one\\n"
        yield b"two\\n"
        if event.query.get("fail"):
            raise RuntimeError("in the middle")
    return pieces(), 200, {"Content-Type": "text/event-stream"}
"""
ASYNC_STREAM = STREAM.replace("def ", "async def ")


@pytest.fixture(
    params=[STREAM, ASYNC_STREAM, STREAM.replace("def handle", "async def handle")], ids=["thread", "async", "mixed"]
)
def stream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_generators_stream(start_replica: StartReplica, stream: str) -> None:
    replica = start_replica(stream)
    answer = replica.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n")
    answer = replica.send(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\none\ntwo\n") and b"chunked" not in answer
    assert replica.call(method="HEAD").headers["content-type"] == "text/event-stream"


def test_a_failure_in_the_middle_is_no_proper_end(start_replica: StartReplica, stream: str) -> None:
    replica = start_replica(stream)
    answer = replica.send(b"GET /?fail=1 HTTP/1.1\r\nHost: h\r\nX-Call-Id: f\r\n\r\n")
    assert answer.endswith(b"4\r\ntwo\n\r\n")
    replica.wait_for_log("f|RuntimeError: in the middle")


@pytest.mark.parametrize("generator", ["def", "async def"])
def test_each_piece_is_sent_when_it_is_made(start_replica: StartReplica, generator: str) -> None:
    wait = "import os, time" if generator == "def" else "import os, asyncio"
    pause = "time.sleep(0.01)" if generator == "def" else "await asyncio.sleep(0.01)"
    replica = start_replica(f"""
{wait}
{generator} handle(event, context):
    yield "data: 1\\n\\n"
    while not os.path.exists("go"):
        {pause}
    yield "data: 2\\n\\n"
""")
    with replica.open("GET", "/") as response:
        assert response.readline() == b"data: 1\n"
        (replica.folder / "go").touch()
        assert response.read() == b"\ndata: 2\n\n"


def test_a_failure_before_the_first_piece_is_a_500(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"{define} handle(event, context):\n    raise RuntimeError('early')\n    yield 'x'")
    assert replica.call().status == 500


def test_a_declared_length_is_kept(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"""
{define} handle(event, context):
    return iter(["abc", "de"]), 200, {{"Content-Length": event.query["n"]}}
""")
    whole = replica.send(b"GET /?n=5 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").lower()
    assert whole.endswith(b"\r\n\r\nabcde") and b"content-length: 5\r\n" in whole and b"chunked" not in whole
    for wrong in (b"4", b"6"):
        client = replica.connect()
        client.sendall(b"GET /?n=%b HTTP/1.1\r\nHost: h\r\n\r\n" % wrong)
        body = read_all(client).partition(b"\r\n\r\n")[2]
        assert len(body) != int(wrong)


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(start_replica: StartReplica, define: str, status: int) -> None:
    replica = start_replica(f"{define} handle(event, context):\n    return 'body', {status}")
    answer = replica.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n") and answer.startswith(b"HTTP/1.1 %d " % status)


def test_head_gets_the_head_alone(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"{define} handle(event, context):\n    return 'body'")
    answer = replica.send(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").lower()
    assert b"content-length: 4\r\n" in answer and answer.endswith(b"\r\n\r\n")


FAULTS = """
import sys
{define} handle(event, context):
    fault = event.path[1:]
    if fault == "raise":
        raise KeyError("the secret reason")
    if fault == "exit":
        sys.exit(3)
    if fault == "return":
        return {{1}}
    return "x", 200, {{"A": "b\\r\\nInjected: yes"}}
"""


@pytest.mark.parametrize(
    ("fault", "logged"),
    [
        ("raise", "c|KeyError: 'the secret reason'"),
        ("exit", "c|SystemExit: 3"),
        ("return", "c|handle() returned set {1}; it may return str, bytes, None"),
        ("header", "c|handle() returned the header b'A'"),
    ],
)
def test_what_fails_is_logged_and_answered_without_the_reason(
    start_replica: StartReplica, define: str, fault: str, logged: str
) -> None:
    replica = start_replica(FAULTS.format(define=define))
    answer = replica.call(f"/{fault}", X_Call_Id="c")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert "injected" not in answer.headers
    wait_until(lambda: any(line.startswith(logged) for line in replica.log), logged)
    assert not any("pinnace_runtime" in line for line in replica.log)
    assert replica.call("/raise").status == 500


def test_prints_carry_the_call_id_and_are_whole(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(f"""
import logging, sys
print("at import")
{define} handle(event, context):
    print("x" * 1_000_000)
    sys.stdout.buffer.write(b"bytes\\n")
    print("to stderr", file=sys.stderr)
    logging.warning("logged")
    print("not ended", end="")
    return context.call_id
""")
    assert replica.call(X_Call_Id="c1").body == b"c1"
    replica.wait_for_log("c1|not ended")
    assert replica.log == [
        "at import",
        "c1|" + "x" * 1_000_000,
        "c1|bytes",
        "c1|to stderr",
        "c1|WARNING:root:logged",
        "c1|not ended",
    ]


SLOW = """
import asyncio, os, time
{define} handle(event, context):
    if event.path == "/quick":
        return "quick"
    if event.path == "/stream":
        return forever()
    {wait}
    return "slow"
def forever():
    while True:
        time.sleep(0.01)
        yield "x"
"""
UNTIL_GO = {
    "def": "print('in call')\n    while not os.path.exists('go'): time.sleep(0.01)",
    "async def": "print('in call')\n    while not os.path.exists('go'): await asyncio.sleep(0.01)",
}


def slow(define: str) -> str:
    return SLOW.format(define=define, wait=UNTIL_GO[define])


def test_more_calls_than_max_inflight_are_refused_before_their_body(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), max_inflight="1")
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    replica.wait_for_log("in call")
    refused = replica.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 429 ") and b"X-OpenFaaS-Internal: runtime\r\n" in refused
    assert refused.endswith(b"Concurrent request limit exceeded. Max concurrent requests: 1\n")
    kept = replica.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhiGET /_/ready HTTP/1.0\r\n\r\n")
    assert kept.startswith(b"HTTP/1.1 429 ") and b"HTTP/1.1 200 OK" in kept
    (replica.folder / "go").touch()
    assert read_all(client).endswith(b"slow")
    assert replica.call("/quick").status == 200


def test_a_slot_is_free_when_the_client_knows_that_its_call_ended(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), max_inflight="1")
    assert [replica.call("/quick").status for _ in range(200)] == [200] * 200


def test_a_call_that_takes_too_long_is_answered_504(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), exec_timeout="200ms", max_inflight="1")
    began = time.monotonic()
    answer = replica.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 504 ") and b"X-OpenFaaS-Internal: runtime\r\n" in answer
    assert b"The call took longer than the function's timeout, 0.2 s\n" in answer
    assert 0.19 <= time.monotonic() - began < 20  # uvloop counts in milliseconds
    replica.wait_for_log("[pinnace] the call took longer than the function's timeout, 0.2 s")  # no id was sent along
    if define == "def":  # which cannot be stopped: it runs on and keeps its slot
        assert replica.call("/quick").status == 429
        (replica.folder / "go").touch()
    wait_until(lambda: replica.call("/quick").status == 200, "a free slot")


def test_x_timeout_only_shortens(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), exec_timeout="1500ms")
    began = time.monotonic()
    answer = replica.call("/", X_Timeout="50ms", X_Call_Id="c-1")
    assert (answer.status, answer.body) == (504, b"The call took longer than its caller's X-Timeout, 0.05 s\n")
    replica.wait_for_log("c-1|[pinnace] the call took longer than its caller's X-Timeout, 0.05 s (call c-1)")
    assert time.monotonic() - began < 1.45
    began = time.monotonic()
    assert replica.call("/", X_Timeout="1h").status == 504
    assert replica.call("/quick", X_Timeout="nonsense").status == 200
    assert 1.49 <= time.monotonic() - began < 20


def test_a_stream_that_takes_too_long_is_cut(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), exec_timeout="200ms", max_inflight="1")
    answer = replica.send(b"GET /stream HTTP/1.1\r\nHost: h\r\nX-Call-Id: c-1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and not answer.endswith(b"0\r\n\r\n") and b"504" not in answer
    replica.wait_for_log("c-1|[pinnace] the call took longer than the function's timeout, 0.2 s (call c-1)")
    wait_until(lambda: replica.call("/quick").status == 200, "a free slot")


def test_a_client_that_leaves_ends_its_stream(start_replica: StartReplica, define: str) -> None:
    replica = start_replica(slow(define), max_inflight="1")
    client = replica.connect()
    client.sendall(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    client.recv(100)
    client.close()
    wait_until(lambda: replica.call("/quick").status == 200, "a free slot")
    assert not any("Traceback" in line for line in replica.log)
