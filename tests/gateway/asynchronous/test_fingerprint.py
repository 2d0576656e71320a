"""The same key with the same request is a repetition; with another one it is a mistake of the client's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.asynchronous.calls import Body, Call, State, Submission, queue_of
from gateway.asynchronous.fingerprint import FINGERPRINT, differs, marked
from orchestration.names import FunctionId

HELLO = FunctionId("openfaas-fn", "hello")
REQUEST = Submission(
    queue=queue_of(HELLO),
    function=HELLO,
    path="/a?b=c",
    headers=(("Content-Type", "text/plain"), ("X-Callback-Url", "http://example.com/"), ("traceparent", "00-1")),
    body=b"hello",
    idempotency_key="k",
)


def kept(wanted: Submission) -> Call:
    return Call(
        id="0197-1",
        queue=wanted.queue,
        function=wanted.function,
        state=State.SUCCEEDED,
        method=wanted.method,
        path=wanted.path,
        headers=wanted.headers,
        body=Body(),  # forgotten
        submitted=0.0,
        due=0.0,
    )


def with_headers(*headers: tuple[str, str]) -> Submission:
    return msgspec.structs.replace(REQUEST, headers=headers)


@pytest.mark.parametrize(
    "again",
    [
        REQUEST,
        with_headers(("x-callback-url", " http://example.com/"), ("content-type", "text/plain "), ("traceparent", "00-2")),
        msgspec.structs.replace(REQUEST, due=90.0, expires=100.0, id="another"),
    ],
    ids=["as it was", "another trace", "another time"],
)
async def test_the_same_request(again: Submission) -> None:
    assert not differs(kept(await marked(REQUEST)), await marked(again))


@pytest.mark.parametrize(
    "again",
    [
        msgspec.structs.replace(REQUEST, method="PUT"),
        msgspec.structs.replace(REQUEST, path="/a?b=d"),
        msgspec.structs.replace(REQUEST, body=b"hello!"),
        msgspec.structs.replace(REQUEST, body=b""),
        msgspec.structs.replace(REQUEST, function=FunctionId("openfaas-fn", "hello--canary")),
        with_headers(*REQUEST.headers[1:]),
        with_headers(REQUEST.headers[0], ("X-Callback-Url", "http://example.com/other")),
        with_headers(*REQUEST.headers, ("Content-Encoding", "gzip")),
    ],
    ids=["method", "query", "body", "no body", "tag", "type", "callback", "encoding"],
)
async def test_another_request(again: Submission) -> None:
    assert differs(kept(await marked(REQUEST)), await marked(again))


async def test_a_body_in_a_file_counts_as_its_bytes_do(tmp_path: Path) -> None:
    long = b"x" * 1_000_000
    file = tmp_path / "body"
    file.write_bytes(long)
    in_a_file = await marked(msgspec.structs.replace(REQUEST, body=file))
    assert in_a_file.body == file
    assert in_a_file.headers == (await marked(msgspec.structs.replace(REQUEST, body=long))).headers
    file.write_bytes(long + b"y")
    assert differs(kept(in_a_file), await marked(msgspec.structs.replace(REQUEST, body=file)))


async def test_a_file_that_cannot_be_read_is_an_error_and_left_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "body").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="No such file"):
        await marked(msgspec.structs.replace(REQUEST, body=tmp_path / "body"))
    assert list(tmp_path.iterdir()) == []


async def test_what_is_not_known_is_taken_for_the_same() -> None:
    assert not differs(None, await marked(REQUEST))
    assert not differs(kept(REQUEST), await marked(REQUEST))  # of a time when none were made
    assert FINGERPRINT not in dict(REQUEST.headers)
