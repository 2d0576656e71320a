"""Heads that came before are not parsed again: whatever comes, the bytes on both sides are those that parsing gives."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.edge import client as client_module
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.headers import KNOWN_HEAD_BYTES, KNOWN_HEADS
from orchestration.events import FunctionRemoved
from tests.gateway.edge.lab import Lab, fields
from tests.gateway.edge.rig import Counting, Outcome, Rig

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def post(body: bytes, path: bytes = b"/function/echo") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


@pytest.fixture(autouse=True)
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "time_ns", lambda: 7)


names = st.sampled_from([b"X-Own", b"x-own", b"Accept", b"Connection", b"Cookie", b"TE", b"Upgrade", b"X-Forwarded-For"])
values = st.sampled_from([b"a", b"", b"keep-alive", b"close", b"x-own", b"b\xe4", b"websocket", GET[:20]])
lines = st.lists(st.builds(lambda name, value: b"%b: %b\r\n" % (name, value), names, values), max_size=3).map(b"".join)
rare_lines = st.sampled_from(
    [b"", b"", b"", b"X-Call-Id: mine\r\n", b"Expect: 100-continue\r\n", b"Host: again\r\n", b" folded\r\n"]
)
bodies = st.sampled_from([b"", b"", b"x", GET, OK, post(b"x"), b"y" * 70_000])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"BREW"]))
    target = draw(st.sampled_from([b"/function/echo", b"/function/echo/a?b", b"/function/nope", b"http://a/function/echo"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    head = b"%b %b HTTP/%b\r\nHost: h\r\n%b%b" % (method, target, version, draw(lines), draw(rare_lines))
    body = draw(bodies)
    match draw(st.sampled_from(["none", "length", "length", "chunked", "lie"])):
        case "length":
            return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        case "chunked":
            return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body) or 1, body or b"z")
        case "lie":
            return head + b"Content-Length: %d\r\n\r\n%b" % (len(body) + 1, body)
    return head + b"\r\n"


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    status = draw(
        st.sampled_from([b"200 OK", b"200 OK", b"201 ", b"204 No Content", b"304 Not Modified", b"429 Busy", b"103 Hint"])
    )
    own = draw(st.sampled_from([b"", b"Date: then\r\n", b"X-Duration-Seconds: 1\r\n", b"X-OpenFaaS-Internal: runtime\r\n"]))
    head = b"HTTP/%b %b\r\n%b%b" % (draw(st.sampled_from([b"1.1", b"1.1", b"1.0"])), status, own, draw(lines))
    body = draw(bodies)
    surplus = draw(st.sampled_from([b"", b"", b"", b"x", OK, OK[:12], OK[:30]]))
    match draw(st.sampled_from(["none", "length", "length", "chunked", "lie"])):
        case "length":
            return head + b"Content-Length: %d\r\n\r\n%b%b" % (len(body), body, surplus)
        case "chunked":
            return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n%b" % (len(body) or 1, body or b"z", surplus)
        case "lie":
            return head + b"Content-Length: %d\r\n\r\n%b" % (len(body) + 1, body)
    return head + b"\r\n"


def cut(draw: st.DrawFn, messages: list[bytes]) -> list[bytes]:
    """Cut a stream into reads: mostly one for each message, now and then at any byte or not at all."""
    reads: list[bytes] = []
    for message in messages:
        how = draw(st.sampled_from(["whole", "whole", "whole", "cut", "head and body", "joined"]))
        at = draw(st.integers(1, len(message) - 1)) if how == "cut" else message.find(b"\r\n\r\n") + 4
        if how == "joined" and reads:
            reads[-1] += message
        elif how in ("cut", "head and body") and 0 < at < len(message):
            reads += [message[:at], message[at:]]
        else:
            reads.append(message)
    return reads


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[list[bytes], list[list[bytes]]]:
    """Reads from a client, and the reads that answer each call; few different messages, so that they come again."""
    few = draw(st.lists(requests() | st.just(GET), min_size=1, max_size=3))
    said = draw(st.lists(st.sampled_from(few), min_size=1, max_size=12))
    few_answers = draw(st.lists(responses() | st.just(OK), min_size=1, max_size=2))
    answers = [cut(draw, [draw(st.sampled_from(few_answers))]) for _ in range(4 * len(said))]
    return cut(draw, said), answers


def outcome(reads: list[bytes], answers: list[list[bytes]], *, remembering: bool) -> tuple[Outcome, Rig]:
    rig = Rig(remembering=remembering)
    supply = iter(answers * 20)
    for data in reads:
        rig.read(data, supply)
    return rig.outcome(), rig


# the body of one request is the head of another, cut where it begins
BODY_LIKE_A_HEAD = [GET, GET, GET, post(GET)[: -len(GET)], GET, GET]
# the rest of a pipelined head is a head that is known
REST_LIKE_A_HEAD = [GET, GET, GET, GET + b"GET /function/echo HTTP/1.1\r\nHost: h\r\nX: ", GET, GET]
# what was learnt of the second of two heads in one read belongs to no other one
MINE = GET[:-2] + b"X-Call-Id: mine\r\n\r\n"
TWO_IN_ONE = [MINE + GET, MINE, MINE, GET, GET]
# a response whose end is the beginning of another one
BEGUN_ANOTHER = [[OK], [OK], [OK + b"HTTP/1.1 200 OK\r\nX: "], [OK], [OK]]


@given(exchanges())
@example((BODY_LIKE_A_HEAD, [[OK]] * 9))
@example((REST_LIKE_A_HEAD, [[OK]] * 9))
@example((TWO_IN_ONE, [[OK]] * 9))
@example(([GET] * 5, BEGUN_ANOTHER))
@example(([post(b"y" * 70_000)] * 4, [[OK]] * 4))
@settings(max_examples=300, deadline=None)
def test_what_is_remembered_gives_the_bytes_that_parsing_gives(exchange: tuple[list[bytes], list[list[bytes]]]) -> None:
    remembered, _ = outcome(*exchange, remembering=True)
    parsed, _ = outcome(*exchange, remembering=False)
    assert remembered == parsed


@pytest.mark.parametrize("request_", [GET, post(b"x"), GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")])
def test_what_came_before_is_not_parsed_again(request_: bytes) -> None:
    seen, rig = outcome([request_] * 5, [[OK]] * 5, remembering=True)
    assert [memory.hits for memory in (rig.requests, rig.responses) if isinstance(memory, Counting)] == [4, 4]
    assert seen.codes == {200: 5}
    assert fields(seen.sent[0], b"x-call-id") == [b"id-%012x" % number for number in range(1, 6)]


@pytest.mark.parametrize(("reads", "calls"), [(BODY_LIKE_A_HEAD, 5), (REST_LIKE_A_HEAD, 4)])
def test_no_head_is_seen_where_a_message_goes_on(reads: list[bytes], calls: int) -> None:
    seen, _ = outcome(reads, [[OK]] * 9, remembering=True)
    assert len(fields(seen.sent[0], b"x-call-id")) == calls


def test_a_connection_on_which_another_response_began_is_not_used_again() -> None:
    seen, _ = outcome([GET] * 5, BEGUN_ANOTHER, remembering=True)
    assert [data.count(b"GET / ") for data in seen.sent] == [3, 2]
    assert seen.codes == {200: 5}


def test_a_known_head_does_not_outlive_its_function() -> None:
    rig = Rig(remembering=True)
    supply = iter([[OK]] * 9)
    for _ in range(3):
        rig.read(GET, supply)
    rig.edge.apply(FunctionRemoved(rig.function.id.namespace, "echo"))
    rig.read(GET, supply)
    assert rig.transport.written.endswith(b"function echo.openfaas-fn not found\n")


def test_memory_is_bounded() -> None:
    reads = [post(b"x", b"/function/echo/%d" % number) for number in range(2 * KNOWN_HEADS)]
    answers = [[b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 0\r\n\r\n" % number] for number in range(2 * KNOWN_HEADS)]
    long = b"X: %b\r\n" % (b"x" * KNOWN_HEAD_BYTES)
    first = GET.replace(b"\r\n\r\n", b"\r\n" + long + b"\r\n")
    _, rig = outcome([first, *reads], [[OK.replace(b"\r\n", b"\r\n" + long, 1)], *answers], remembering=True)
    assert len(rig.requests) == len(rig.responses) == KNOWN_HEADS
    assert max(map(len, [*rig.requests, *rig.responses])) <= KNOWN_HEAD_BYTES
    rig.context.turn()
    assert not rig.requests
    assert not rig.responses


async def test_the_same_bytes_from_another_client_tell_of_that_client(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.edge.port, local_addr=("127.0.0.2", 0))
    other = type(await lab.client())(reader, writer)
    lab.clients.append(other)
    client = await lab.client()
    for who in (client, other, client, other):
        assert (await who.get())[2] == b"ok"
    assert [fields(head, b"x-forwarded-for") for head in origin.heads] == [[b"127.0.0.1"], [b"127.0.0.2"]] * 2


def test_dispatchers_are_asked_each_time() -> None:
    """Traffic may move between two calls of the same bytes."""
    rig = Rig(remembering=True)
    rig.read(GET, iter([[OK]]))
    route = rig.context.routes.names[b"echo"]
    seen: list[Dispatcher | None] = []
    pick = route.pick

    class Watched:
        tally = route.tally

        def pick(self) -> Dispatcher | None:
            seen.append(pick())
            return seen[-1]

    rig.context.routes.names[b"echo"] = Watched()  # type: ignore[assignment]
    rig.read(GET, iter([[OK]]))
    assert len(seen) == 1
