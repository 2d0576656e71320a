"""Whatever is read without the parser: the bytes on both sides are those that parsing gives."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.edge import context as context_module
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.headers import REQUEST, RESPONSE
from gateway.edge.plain import KNOWN_READ_BYTES, KNOWN_READS, PLAIN_HEAD_BYTES, PlainRequests, PlainResponses
from gateway.edge.settings import EdgeSettings
from orchestration.events import FunctionRemoved
from tests.gateway.edge.lab import Lab, fields
from tests.gateway.edge.rig import Outcome, Rig

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def post(body: bytes, path: bytes = b"/function/echo") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


@pytest.fixture(autouse=True)
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "time_ns", lambda: 7)


def spelt(name: bytes) -> list[bytes]:
    """Ways to write a field's name, some of which only look like it."""
    titled = b"-".join(part.capitalize() for part in name.split(b"-"))
    return [name, titled, titled, name.upper(), name.replace(b"-", b"_"), titled + b"-More", titled + b" "]


MEANT: Final = [way for name in sorted({*REQUEST, *RESPONSE}) for way in spelt(name)]
OWN: Final = [
    b"X-Own",
    b"x-own",
    b"Accept",
    b"Cookie",
    b"traceparent",
    b"X-Forwarded-Port",
    b"Trailer",
    b"Sec-CH-UA",
    b"a!b",
    b"",
]
VALUES: Final = [
    *(
        b"a",
        b"a: b",
        b"",
        b" ",
        b" a",
        b"a ",
        b"a b",
        b"a\tb",
        b"a\t",
        b"b\xe4",
        b"\x7f",
        b"a\rb",
        b"a\n",
        b"a\r\n b",
        b"x" * 70,
    ),
    *(b"keep-alive", b"Keep-Alive", b"close", b"x-own", b"websocket", b"chunked", b"100-continue", b"runtime", b"h", GET[:20]),
    *(b"0", b"1", b"01", b"+1", b"1, 1", b"1" * 30),
]
TRUSTING: Final = {"trusted_proxies": ("127.0.0.0/8",)}
INNER: Final = {"inner": True}
FORWARDED: Final = b"X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\n"
TARGETS: Final = [
    b"/function/echo",
    b"/function/echo/a?b",
    b"/function/nope",
    b"http://a/function/echo",
    b"/async-function/echo",
    b"/async-function/echo?b",
    b"/async-function/nope/result",
]
COLONS: Final = [b": ", b":", b":  ", b" : ", b":\t", b" "]
names = st.sampled_from(OWN) | st.sampled_from(MEANT)
values = st.sampled_from(VALUES)
colons = st.sampled_from([b": "] * 6 + COLONS)
lines = st.lists(st.builds(lambda *parts: b"%b%b%b\r\n" % parts, names, colons, values), max_size=4).map(b"".join)
rare_lines = st.sampled_from(
    [
        *(b"", b"", b""),
        *(b"X-Call-Id: mine\r\n", b"Expect: 100-continue\r\n", b"Host: again\r\n", b" folded\r\n"),
        *(FORWARDED, FORWARDED, FORWARDED * 2, FORWARDED + b"X-Forwarded-Port: 1\r\n", FORWARDED.lower()),
    ]
)
bodies = st.sampled_from([b"", b"", b"x", GET, OK, post(b"x"), b"y" * 70_000])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"BREW"]))
    target = draw(st.sampled_from(TARGETS))
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


class Read:
    """Stands in for what reads plain heads, and counts what it read."""

    def __init__(self, reader: PlainRequests | PlainResponses) -> None:
        self.reader = reader
        self.plain = 0

    def read(self, data: bytes) -> object:
        plain = self.reader.read(data)
        self.plain += plain is not None
        return plain

    def forget(self) -> None:
        self.reader.forget()


def outcome(reads: list[bytes], answers: list[list[bytes]], *, plain: bool, **settings: Any) -> tuple[Outcome, int, int]:
    """Return what anybody could see, and how many reads of requests and of responses went past the parser."""
    rig = Rig(plain=plain, **settings)
    requests_read = rig.context.plain_requests = Read(rig.context.plain_requests)  # type: ignore[assignment]
    responses_read = rig.context.plain_responses = Read(rig.context.plain_responses)  # type: ignore[assignment]
    supply = iter(answers * 20)
    for data in reads:
        rig.read(data, supply)
    return rig.outcome(), requests_read.plain, responses_read.plain


APART: Final = (b"host", b"content-length")
FROM_WORKERS: Final = (*APART, b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")


def comparable(stream: bytes, set_apart: Container[bytes] = APART) -> list[tuple[list[bytes], list[bytes]]]:
    """Cut a stream at empty lines. The parser's way writes `Host` first and `Content-Length` last, the plain one leaves them
    as they stood, and what a worker says of its client too: they are set apart from the other lines, whose order counts."""
    parts = []
    for part in stream.split(b"\r\n\r\n"):
        apart, others = [], []
        for line in part.split(b"\r\n"):
            name, colon, value = line.partition(b": ")
            if colon and name.lower() in set_apart:
                apart.append(name.lower() + colon + value)
            else:
                others.append(line)
        parts.append((sorted(apart), others))
    return parts


def assert_same(reads: list[bytes], answers: list[list[bytes]], limits: Mapping[str, Any] = {}) -> tuple[int, int]:
    """Both ways come to the same. Returns how many reads were plain."""
    one, requests_read, responses_read = outcome(reads, answers, plain=True, **limits)
    other, *_ = outcome(reads, answers, plain=False, **limits)
    assert comparable(one.answered) == comparable(other.answered)
    apart = FROM_WORKERS if limits.get("inner") else APART
    assert [comparable(sent, apart) for sent in one.sent] == [comparable(sent, apart) for sent in other.sent]
    assert one.codes == other.codes
    return requests_read, responses_read


# the body of one request is the head of another, cut where it begins
BODY_LIKE_A_HEAD = [GET, GET, GET, post(GET)[: -len(GET)], GET, GET]
# the rest of a pipelined head is a head that is plain
REST_LIKE_A_HEAD = [GET, GET, GET, GET + b"GET /function/echo HTTP/1.1\r\nHost: h\r\nX: ", GET, GET]
# of two heads in one read the first one's id is its own
MINE = GET[:-2] + b"X-Call-Id: mine\r\n\r\n"
TWO_IN_ONE = [MINE + GET, MINE, MINE, GET, GET]
# a response whose end is the beginning of another one
BEGUN_ANOTHER = [[OK], [OK], [OK + b"HTTP/1.1 200 OK\r\nX: "], [OK], [OK]]


@given(
    exchanges(),
    st.sampled_from([{}, {}, {"max_header_fields": 2}, {"max_header_bytes": 80}, {"max_body_bytes": 1}, TRUSTING, INNER]),
)
@example((BODY_LIKE_A_HEAD, [[OK]] * 9), {})
@example((REST_LIKE_A_HEAD, [[OK]] * 9), {})
@example((TWO_IN_ONE, [[OK]] * 9), {})
@example(([GET] * 5, BEGUN_ANOTHER), {})
@example(([post(b"y" * 70_000)] * 4, [[OK]] * 4), {})
@settings(max_examples=400, deadline=None)
def test_what_is_plain_gives_the_bytes_that_parsing_gives(
    exchange: tuple[list[bytes], list[list[bytes]]], limits: dict[str, object]
) -> None:
    assert_same(*exchange, limits)


CLIENTS = {
    "curl": GET.replace(b"\r\n\r\n", b"\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"),
    "curl -d": b"POST /function/echo HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
    b"Content-Length: 2\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nab",
    "browser": b"GET /function/echo.openfaas-fn/a/b?c=%20&d=[1]*'(~) HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8080\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="124", "Not-A.Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\nUpgrade-Insecure-Requests: 1\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: text/html,*/*;q=0.8\r\n"
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nCookie: a=b; c={d}\r\nDNT: 1\r\n\r\n",
    "requests": b"PUT /function/echo?x HTTP/1.1\r\nHost: h\r\nUser-Agent: python-requests/2.31\r\nAccept-Encoding: gzip\r\n"
    b"Accept: */*\r\nConnection: keep-alive\r\nContent-Length: 1\r\nContent-Type: application/json\r\n\r\n1",
    "Node": b"DELETE /function/echo/ HTTP/1.1\r\nAccept: application/json\r\nUser-Agent: axios/1.6\r\nContent-Length: 0\r\n"
    b"Host: h\r\nConnection: keep-alive\r\n\r\n",
    "a proxy": b"GET /function/echo HTTP/1.1\r\nHost: h\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8, 9.9.9.9\r\n"
    b"Via: 1.1 a\r\nX-Forwarded-Proto: https\r\nConnection: keep-alive\r\nX-Forwarded-Host: a.example\r\n"
    b"Forwarded: for=9.9.9.9\r\nX-Forwarded-Port: 443\r\n\r\n",
    "a worker": b"POST /function/echo.openfaas-fn/ HTTP/1.1\r\nHost: h\r\nX-Call-Id: 018f-a.b_c\r\nUser-Agent: curl/7.88.1\r\n"
    b"X-Own-X-Call-Id: 018f-a.b_c\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab",
    "later": b"POST /async-function/echo.openfaas-fn?a=b HTTP/1.1\r\nHost: h\r\nX-Delay: 3\r\nContent-Length: 1\r\n\r\n1",
    "later, by its own id": b"PUT /async-function/echo/a HTTP/1.1\r\nHost: h\r\nX-Call-Id: mine\r\nContent-Length: 0\r\n\r\n",
    "a worker for a client": b"POST /function/echo HTTP/1.1\r\nHost: h\r\nX-Call-Id: a\r\nX-Own: 1\r\n"
    b"%bContent-Length: 1\r\n\r\n1" % FORWARDED,
    "lower case": b"POST /function/echo HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\n"
    b"content-length: 1\r\nte-st: a\r\n\r\n1",
}
SERVERS = {
    "the runtime": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n"
    b"X-Duration-Seconds: 0.1\r\n\r\nok",
    "the acceptor": b"HTTP/1.1 202 Accepted\r\nX-Call-Id: theirs\r\nContent-Length: 0\r\n\r\n",
    "one that tells the id": b"HTTP/1.1 200 OK\r\nX-Own-X-Call-Id: a\r\nx-call-id: a\r\nConnection: keep-alive\r\n"
    b"Content-Length: 2\r\n\r\nok",
    "uvicorn": b"HTTP/1.1 201 Created\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\nserver: uvicorn\r\ncontent-length: 0\r\n\r\n",
    "nginx": b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n"
    b'Connection: keep-alive\r\nETag: "a-b"\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\nok',
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("limits", [{}, TRUSTING, INNER])
def test_what_usual_clients_send_is_plain(name: str, limits: dict[str, object]) -> None:
    assert assert_same([CLIENTS[name]] * 2, [[OK]] * 2, limits) == (2, 2)


@pytest.mark.parametrize("name", SERVERS)
def test_what_usual_servers_answer_is_plain(name: str) -> None:
    assert assert_same([GET] * 2, [[SERVERS[name]]] * 2) == (2, 2)


NASTY: Final = [bytes((byte,)) for byte in b"\r\n\t\0 :;,-_/?#%\x7f\x80\xffaZ09"] + [b"\r\n", b"\r\n\r\n", b": ", b"HTTP/1.1"]


def mutations(messages: Iterable[bytes], count: int) -> list[bytes]:
    """Messages with one to three faults in their heads, always the same ones."""
    draw = random.Random(9112)
    pool = list(messages)
    made = []
    for _ in range(count):
        message = draw.choice(pool)
        for _ in range(draw.choice((1, 1, 2, 3))):
            at = draw.randrange(message.find(b"\r\n\r\n") + 4 or len(message))
            to = at + draw.choice((0, 0, 1, 1, 2, 20))
            match draw.randrange(4):
                case 0:
                    message = message[:at] + draw.choice(NASTY) + message[to:]
                case 1:
                    message = message[:at] + message[at:to].swapcase() + message[to:]
                case 2:  # a line again, somewhere else
                    again = draw.choice(message.split(b"\r\n"))
                    where = message.find(b"\r\n", at) + 2
                    message = message[:where] + again + b"\r\n" + message[where:]
                case _:
                    name = draw.choice(MEANT)
                    where = message.find(b"\r\n", at) + 2
                    message = (
                        message[:where] + name + b": " + draw.choice((b"1", b"keep-alive", b"h")) + b"\r\n" + message[where:]
                    )
        made.append(message)
    return made


def all_lines() -> Iterator[bytes]:
    for name in (*OWN, *MEANT):
        for value in VALUES:
            yield b"%b: %b\r\n" % (name, value)
    for name, colon, value in itertools.product((b"X-Own", b"Host", b"Content-Length", b"Connection"), COLONS, VALUES):
        yield name + colon + value + b"\r\n"


def test_every_line_of_a_request_means_the_same_both_ways() -> None:
    plain = sum(assert_same([GET[:-2] + line + b"\r\n", GET], [[OK]] * 3, TRUSTING)[0] for line in all_lines())
    assert plain > 1000


def test_every_line_of_a_response_means_the_same_both_ways() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n%b\r\nok"
    plain = sum(assert_same([GET, GET], [[busy % line], [OK]])[1] for line in all_lines())
    assert plain > 1000


def test_mutated_requests_mean_the_same_both_ways() -> None:
    limits = itertools.cycle(({}, TRUSTING))
    plain = sum(assert_same([request, GET], [[OK]] * 9, next(limits))[0] for request in mutations(CLIENTS.values(), 1500))
    assert 500 < plain < 2500


def test_mutated_responses_mean_the_same_both_ways() -> None:
    plain = sum(assert_same([GET, GET], [[answer], [OK]])[1] for answer in mutations(SERVERS.values(), 1500))
    assert 500 < plain < 2500


@pytest.mark.parametrize(("reads", "calls"), [(BODY_LIKE_A_HEAD, 5), (REST_LIKE_A_HEAD, 4)])
def test_no_head_is_seen_where_a_message_goes_on(reads: list[bytes], calls: int) -> None:
    seen, *_ = outcome(reads, [[OK]] * 9, plain=True)
    assert len(fields(seen.sent[0], b"x-call-id")) == calls


def test_a_connection_on_which_another_response_began_is_not_used_again() -> None:
    seen, *_ = outcome([GET] * 5, BEGUN_ANOTHER, plain=True)
    assert [data.count(b"GET / ") for data in seen.sent] == [3, 2]
    assert seen.codes == {200: 5}


def test_a_known_head_does_not_outlive_its_function() -> None:
    rig = Rig()
    supply = iter([[OK]] * 9)
    for _ in range(3):
        rig.read(GET, supply)
    rig.edge.apply(FunctionRemoved(rig.function.id.namespace, "echo"))
    rig.read(GET, supply)
    assert rig.transport.written.endswith(b"function echo.openfaas-fn not found\n")


def test_what_came_before_is_remembered_until_the_next_sweep() -> None:
    reader = PlainRequests(EdgeSettings())
    first = reader.read(GET)
    assert reader.read(post(b"x")) is not first
    assert reader.read(GET) is first
    reader.forget()
    assert reader.read(GET) is not first


@pytest.mark.parametrize("reader", [PlainRequests(EdgeSettings()), PlainResponses()])
def test_memory_is_bounded(reader: PlainRequests | PlainResponses) -> None:
    def message(own: bytes, body: bytes = b"") -> bytes:
        request = isinstance(reader, PlainRequests)
        first = b"POST /function/echo HTTP/1.1\r\nHost: h" if request else b"HTTP/1.1 200 OK"
        return b"%b\r\nX: %b\r\nContent-Length: %d\r\n\r\n%b" % (first, own, len(body), body)

    assert reader.read(message(b"x" * KNOWN_READ_BYTES)) is not None
    assert reader.read(message(b"x", b"y" * KNOWN_READ_BYTES)) is not None
    assert reader.read(message(b"x" * PLAIN_HEAD_BYTES)) is None
    assert not reader._known
    for number in range(2 * KNOWN_READS):
        assert reader.read(message(b"%d" % number)) is not None
    assert len(reader._known) == KNOWN_READS
    assert max(map(len, reader._known)) <= KNOWN_READ_BYTES


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
    rig = Rig()
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
