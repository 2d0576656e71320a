from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from builder.events import BuildEvent
from gateway.control.build import LONGEST_LINE_BYTES, MOST_SIGNED_UPLOADS, MOST_UPLOADS, lines_of
from tests.fakes.builder import FakeBuilder
from tests.gateway.control.client import Client
from tests.gateway.control.conftest import BUILD_BODY_LIMIT, PAYLOAD_SECRET, Application, serving, until

TAR = bytes(range(256)) * 10_000


def signed(body: bytes, key: bytes = PAYLOAD_SECRET) -> dict[str, str]:
    return {"X-Build-Signature": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()}


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "uploads").iterdir())


async def test_a_signed_build_needs_no_login(client: Client, builder: FakeBuilder, tmp_path: Path) -> None:
    answer = await client("POST", "/build", TAR, signed(TAR), login=False)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line["status"] for line in answer.lines()] == ["in_progress", "success"]
    assert builder.contexts == [TAR]
    await until(lambda: not kept(tmp_path))


async def test_a_build_with_the_login_needs_no_signature(client: Client, builder: FakeBuilder) -> None:
    assert (await client("POST", "/build", TAR)).lines()[-1]["status"] == "success"
    assert builder.contexts == [TAR]


async def test_a_signed_build_passes_whatever_login_comes_with_it(client: Client, builder: FakeBuilder) -> None:
    headers = {"Authorization": "Bearer ", **signed(TAR)}
    assert (await client("POST", "/build", TAR, headers, login=False)).lines()[-1]["status"] == "success"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Build-Signature": ""},
        {"X-Build-Signature": "sha256="},
        {"X-Build-Signature": "sha256=" + "g" * 64},
        {"X-Build-Signature": "sha1=" + "0" * 40},
        {"X-Build-Signature": "sha256=" + "0" * 64},
        signed(TAR, b"another key"),
        signed(TAR + b"x"),
    ],
)
async def test_neither_is_401_and_nothing_stays(
    client: Client, builder: FakeBuilder, tmp_path: Path, headers: dict[str, str]
) -> None:
    answer = await client("POST", "/build", TAR, headers, login=False)
    assert (answer.status, answer.text) == (401, "invalid credentials")
    assert answer.headers["www-authenticate"] == 'Basic realm="Restricted"'
    assert builder.contexts == []
    assert kept(tmp_path) == []


async def test_a_body_of_unknown_length_is_read_to_its_end(client: Client, builder: FakeBuilder) -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (TAR[:70_000], TAR[70_000:])) + b"0\r\n\r\n"
    headers = {"Transfer-Encoding": "chunked", "Content-Length": None, **signed(TAR)}
    answer = await client("POST", "/build", chunked, headers, login=False)  # type: ignore[arg-type]
    assert answer.lines()[-1]["status"] == "success"
    assert builder.contexts == [TAR]


async def test_too_large_a_body_is_413_before_it_is_read(client: Client, builder: FakeBuilder, tmp_path: Path) -> None:
    async with client.stream("POST", "/build", b"", {"Content-Length": str(BUILD_BODY_LIMIT + 1)}) as stream:
        assert stream.status == 413
    half = b"x" * (BUILD_BODY_LIMIT // 2 + 1)
    chunked = (b"%x\r\n%b\r\n" % (len(half), half)) * 2 + b"0\r\n\r\n"
    headers = {"Transfer-Encoding": "chunked", "Content-Length": None}
    assert (await client("POST", "/build", chunked, headers)).status == 413  # type: ignore[arg-type]
    assert builder.contexts == []
    assert kept(tmp_path) == []


async def test_an_empty_body_is_400(client: Client, tmp_path: Path) -> None:
    assert (await client("POST", "/build", b"")).status == 400
    assert kept(tmp_path) == []


async def test_a_busy_builder_is_429_and_says_when_to_come_back(client: Client, builder: FakeBuilder, tmp_path: Path) -> None:
    builder.busy = True
    answer = await client("POST", "/build", TAR)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 0
    assert kept(tmp_path) == []


async def test_so_many_uploads_at_a_time_and_one_that_breaks_off_leaves_nothing(
    client: Client, builder: FakeBuilder, tmp_path: Path
) -> None:
    head = f"POST /build HTTP/1.1\r\nHost: localhost\r\nAuthorization: {client.authorization}\r\nContent-Length: 9\r\n\r\n12345"
    writers = []
    for _ in range(MOST_UPLOADS):
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(head.encode())
        writers.append(writer)
    await until(lambda: len(kept(tmp_path)) == MOST_UPLOADS)
    assert (await client("POST", "/build", TAR)).status == 429
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    await until(lambda: not kept(tmp_path))
    assert (await client("POST", "/build", TAR)).status == 200


async def test_strangers_who_invent_signatures_get_little_room(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control.build.SIGNED_BODY_LIMIT_BYTES", 1 << 20)
    head = f"POST /build HTTP/1.1\r\nHost: localhost\r\nX-Build-Signature: sha256={'0' * 64}\r\nContent-Length: 9\r\n\r\n12345"
    writers = []
    for _ in range(MOST_SIGNED_UPLOADS):
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(head.encode())
        writers.append(writer)
    await until(lambda: len(kept(tmp_path)) == MOST_SIGNED_UPLOADS)
    assert (await client("POST", "/build", b"x", signed(b"x"), login=False)).status == 429
    assert (await client("POST", "/build", TAR)).status == 200, "whoever has the login is not kept waiting"
    assert (await client("POST", "/build", TAR, signed(TAR), login=False)).status == 413
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    await until(lambda: not kept(tmp_path))
    assert (await client("POST", "/build", b"x", signed(b"x"), login=False)).status == 200


async def test_a_signed_build_that_does_not_arrive_is_given_up(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control.build.SIGNED_WITHIN_S", 0.05)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    lines = [
        "POST /build HTTP/1.1",
        "Host: localhost",
        f"X-Build-Signature: sha256={'0' * 64}",
        "Content-Length: 9",
        "",
        "12345",
    ]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).split()[1] == b"408"
    await until(lambda: not kept(tmp_path))
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((), "without a result"),
        ((BuildEvent(["a"], "img", "in_progress"),), "without a result"),
        ((BuildEvent([], "img", "failed", "pip failed"), BuildEvent([], "img", "success")), "pip failed"),
    ],
)
async def test_the_last_line_is_always_explicit(
    client: Client, builder: FakeBuilder, events: tuple[BuildEvent, ...], words: str
) -> None:
    builder.events = events
    last = (await client("POST", "/build", TAR)).lines()[-1]
    assert last["status"] == "failed"
    assert words in last["error"]


async def test_a_builder_that_breaks_is_a_failed_build(
    client: Client, builder: FakeBuilder, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    builder.events = (BuildEvent(["a"], "img", "in_progress"),)
    builder.fails_with = RuntimeError("secret inner state")
    answer = await client("POST", "/build", TAR)
    assert answer.lines()[-1]["status"] == "failed"
    assert "secret inner state" not in answer.text
    assert "secret inner state" in caplog.text
    await until(lambda: not kept(tmp_path))


async def test_a_client_that_leaves_ends_the_build(client: Client, builder: FakeBuilder, tmp_path: Path) -> None:
    builder.gate.clear()
    async with client.stream("POST", "/build", TAR) as stream:
        assert json.loads(await stream.chunk())["status"] == "in_progress"
        assert (builder.open_builds, len(kept(tmp_path))) == (1, 1)
    await until(lambda: builder.open_builds == 0 and not kept(tmp_path))


async def test_what_a_killed_process_left_is_swept(application: Application, tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "left.tar").write_bytes(b"x")
    async with serving(application()) as client:
        assert kept(tmp_path) == []
        assert (tmp_path / "uploads").stat().st_mode & 0o777 == 0o700
        assert (await client("POST", "/build", TAR)).status == 200


async def test_a_full_disk_is_507(client: Client, builder: FakeBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gateway.control.build.tempfile.mkstemp", full)
    for _ in range(MOST_UPLOADS + 1):
        answer = await client("POST", "/build", TAR)
        assert (answer.status, "disk is full" in answer.text) == (507, True)
    assert builder.contexts == []


def test_no_line_is_longer_than_clients_read() -> None:
    event = BuildEvent(["\x01" * 100_000, *["ü" * 3000] * 40], "img" * 3000, "failed", "\udcff\n" * 50_000, 1.0)
    lines = lines_of(event)
    assert max(map(len, lines)) <= LONGEST_LINE_BYTES
    decoded = [json.loads(line) for line in lines]
    assert [line["status"] for line in decoded] == ["in_progress"] * (len(lines) - 1) + ["failed"]
    assert sum(len(line["log"]) for line in decoded) == 41
    assert all(line.count(b"\n") == 1 for line in lines)


async def test_the_public_key_is_what_the_client_expects(client: Client) -> None:
    answer = await client("GET", "/publickey", login=False)
    assert set(answer.json()) == {"key_id", "algorithm", "public_key"}
    assert answer.json()["algorithm"] == "nacl/box"
