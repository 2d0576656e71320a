"""Attempts against real receivers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.callbacks import sending
from gateway.callbacks.addresses import Allowed
from gateway.callbacks.sending import Answer, Sender
from gateway.callbacks.target import Guard

HERE = Guard(Allowed(["loopback"]))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Receiver:
    """Answers every request with `answer`; `requests` are what came."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.port = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
            )
            self.requests.append(head + await reader.readexactly(length))
            writer.write(self.answer)
            await writer.drain()


@asynccontextmanager
async def serving(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], trust: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve on loopback; give the port, and at the end wait for what is served."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=trust)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*(task for task in tasks if task is not None))


@asynccontextmanager
async def receiving(answer: bytes = OK, trust: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    async with serving(receiver.serve, trust) as receiver.port:
        yield receiver


def pieces(*parts: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return body


async def send(
    url: str,
    *parts: bytes,
    guard: Guard = HERE,
    resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None,
    headers: Sequence[tuple[str, str]] = (("X-Call-Id", "1"),),
    trust: ssl.SSLContext | None = None,
) -> Answer:
    return await Sender(guard, resolve, trust).send(url, headers, pieces(*parts), sum(map(len, parts)))


def names(**table: list[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return table[host.partition(".")[0]]

    return resolve


async def test_a_receiver_gets_the_body_and_the_headers() -> None:
    async with receiving() as receiver:
        assert await send(f"http://127.0.0.1:{receiver.port}/done?x=1", b"one ", b"two") == Answer(200)
        (request,) = receiver.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b"one two"
    assert head.split(b"\r\n") == [
        b"POST /done?x=1 HTTP/1.1",
        f"Host: 127.0.0.1:{receiver.port}".encode(),
        b"X-Call-Id: 1",
        b"Content-Length: 7",
        b"Connection: close",
    ]


async def test_a_large_body_streams() -> None:
    async with receiving() as receiver:
        answer = await send(f"http://127.0.0.1:{receiver.port}/", *([b"x" * 262_144] * 16))
        assert answer == Answer(200)
        assert receiver.requests[0].endswith(b"\r\n\r\n" + b"x" * (262_144 * 16))


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Answer(503, retry_after="7")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Answer(204)),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", Answer(200)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", Answer(200)),  # cut, but taken
    ],
)
async def test_the_head_of_the_answer_counts(said: bytes, answer: Answer) -> None:
    async with receiving(said) as receiver:
        assert await send(f"http://127.0.0.1:{receiver.port}/", b"x") == answer


async def test_redirects_are_not_followed() -> None:
    async with receiving() as inside:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{inside.port}/\r\nContent-Length: 0\r\n\r\n"
        async with receiving(moved.encode()) as receiver:
            answer = await send(f"http://127.0.0.1:{receiver.port}/", b"x")
        assert answer == Answer(307)
        assert not answer.taken
        assert inside.connections == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the answer is not HTTP"),
        (b"", "ended before the answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, "the answer is not HTTP"),
    ],
)
async def test_what_is_no_answer_is_told(said: bytes, reason: str) -> None:
    async with receiving(said) as receiver:
        answer = await send(f"http://127.0.0.1:{receiver.port}/", b"x")
    assert answer.status == 0
    assert reason in answer.reason
    assert not answer.refused


async def test_an_answer_may_come_before_the_body_is_taken() -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()  # takes what still comes, so that the answer is not lost in a reset

    async with serving(hasty) as port:
        assert (await send(f"http://127.0.0.1:{port}/", *([b"x" * 262_144] * 8))).status == 413


async def test_nobody_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answer = await send(f"http://127.0.0.1:{free.getsockname()[1]}/", b"x")
    assert answer.reason.startswith("cannot connect")
    assert not answer.refused


async def test_a_receiver_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ANSWER_WITHIN_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port:
        answer = await send(f"http://127.0.0.1:{port}/", b"x")
    assert answer == Answer(reason="no answer in time")


async def test_a_name_is_asked_once_and_only_its_allowed_addresses_are_tried() -> None:
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["169.254.169.254", "127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with receiving() as receiver:
        answer = await send(f"http://hooks.example:{receiver.port}/", b"x", resolve=resolve)
        assert answer == Answer(200)
        assert b"Host: hooks.example:" in receiver.requests[0]
    assert asked == ["hooks.example"]


async def test_a_name_that_leads_inside_is_refused_without_a_connection() -> None:
    async with receiving() as receiver:
        public = Guard(Allowed(["public"]))
        answer = await send(
            f"http://rebound.example:{receiver.port}/", b"x", guard=public, resolve=names(rebound=["127.0.0.1", "::1"])
        )
        assert receiver.connections == 0
    assert answer.refused
    assert answer.reason.startswith("rebound.example has no address that callbacks may go to")
    assert "127.0.0.1" not in answer.reason


async def test_a_name_without_addresses_is_tried_again() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    answer = await send("http://nowhere.example/", b"x", resolve=unknown)
    assert answer == Answer(reason="cannot connect: Name or service not known")
    assert (await send("http://nowhere.example/", b"x", resolve=names(nowhere=[]))).reason.endswith("has no address")


async def test_the_systems_resolver_knows_localhost() -> None:
    async with receiving() as receiver:
        assert await send(f"http://localhost:{receiver.port}/", b"x") == Answer(200)


async def test_a_resolver_that_hangs_holds_up_few_others_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    held, answers = threading.Event(), threading.Event()

    def slow(host: str, port: int, **how: object) -> list[tuple[object, ...]]:
        held.set()
        answers.wait(5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(sending, "CONNECT_WITHIN_S", 0.05)
    monkeypatch.setattr("gateway.callbacks.sending.socket.getaddrinfo", slow)
    sender = Sender(HERE)
    asked = [sender.send("http://slow.example/", (), pieces(b""), 0) for _ in range(sending.LOOKUPS + 3)]
    assert {(await one).reason for one in asked} == {"no answer in time"}
    assert held.is_set()
    resolvers = [thread for thread in threading.enumerate() if thread.name == "resolver"]
    assert len(resolvers) == sending.LOOKUPS
    assert all(thread.daemon for thread in resolvers), "the process ends without them"
    answers.set()
    for thread in resolvers:
        thread.join(5)


async def test_headers_cannot_smuggle_a_line() -> None:
    async with receiving() as receiver:
        answer = await send(f"http://127.0.0.1:{receiver.port}/", b"x", headers=[("X-A", "b\r\nX-Evil: 1")])
        assert receiver.requests == []
    assert answer.refused
    assert answer.reason.startswith("it cannot be sent")


async def test_a_body_that_is_gone_is_an_error_of_ours() -> None:
    async def gone() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("body")

    async with receiving() as receiver:
        with pytest.raises(KeyError):
            await Sender(HERE).send(f"http://127.0.0.1:{receiver.port}/", (), gone, 10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += [
        "-subj",
        "/CN=hooks.example",
        "-addext",
        "subjectAltName=DNS:hooks.example",
        "-keyout",
        str(key),
        "-out",
        str(path),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not here (apt-get install openssl)")
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


async def test_a_certificate_must_be_for_the_name_not_the_address(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=str(certificate))
    resolve = names(hooks=["127.0.0.1"], other=["127.0.0.1"])
    async with receiving(trust=server) as receiver:
        url = f"https://hooks.example:{receiver.port}/"
        assert await send(url, b"x", resolve=resolve, trust=trust) == Answer(200)
        assert (await send(url, b"x", resolve=resolve)).reason.startswith("no secure connection: self-signed")
        wrong = await send(f"https://other.example:{receiver.port}/", b"x", resolve=resolve, trust=trust)
        assert wrong.reason.startswith("no secure connection: Hostname mismatch")
        assert len(receiver.requests) == 1
