from __future__ import annotations

import msgspec
import pytest

from gateway.asynchronous.calls import Body, Call, Headers, Outcome, State
from gateway.callbacks.callback import LONGEST_REASON, callback
from orchestration.names import FunctionId

NOW = 1_767_225_600.0


def call(headers: Headers = (("x-callback-url", " http://example.com/done "),), namespace: str = "openfaas-fn") -> Call:
    return Call(
        id="0197-1",
        queue="q",
        function=FunctionId(namespace, "hello"),
        state=State.RUNNING,
        method="POST",
        path="/",
        headers=headers,
        body=Body(),
        submitted=NOW - 60,
        due=NOW - 60,
        attempts=3,
    )


def outcome(status: int = 200, headers: Headers = ()) -> Outcome:
    return Outcome(status=status, headers=headers, started=NOW - 1.5, ended=NOW - 0.25, cut=status == 206)


def headers_of(outcome: Outcome, call: Call) -> dict[str, str]:
    made = callback(call, State.SUCCEEDED, outcome, b"", NOW, most_attempts=10, retry_for_s=3600)
    assert made is not None
    return dict(made.headers)


def test_who_did_not_ask_gets_none() -> None:
    assert callback(call(headers=()), State.SUCCEEDED, outcome(), b"", NOW, most_attempts=10, retry_for_s=3600) is None


def test_it_is_a_call_of_its_own_to_the_url_with_the_functions_answer() -> None:
    made = callback(
        call(),
        State.SUCCEEDED,
        outcome(headers=(("Content-Type", "text/x"),)),
        b"the answer",
        NOW,
        most_attempts=10,
        retry_for_s=3600,
    )
    assert made is not None
    assert (made.url, made.method, made.body) == ("http://example.com/done", "POST", b"the answer")
    assert (made.queue, made.function) == ("hello.openfaas-fn#callback", FunctionId("openfaas-fn", "hello"))
    assert (made.due, made.expires) == (NOW, NOW + 3600)
    assert dict(made.headers) == {
        "Content-Type": "text/x",
        "X-Call-Id": "0197-1",
        "X-Function-Name": "hello",
        "X-Function-Status": "200",
        "X-Duration-Seconds": "1.250000",
        "X-Retry": "3",
        "X-Retry-Max": "10",
        "X-Call-State": "succeeded",
        "User-Agent": "Pinnace-Callback",
    }


def test_no_response_is_what_openfaas_calls_503() -> None:
    assert headers_of(outcome(0), call())["X-Function-Status"] == "503"
    assert headers_of(outcome(500), call())["X-Function-Status"] == "500"


def test_how_it_ended_and_why_is_told_in_headers_of_our_own() -> None:
    ended = msgspec.structs.replace(outcome(500), reason="the function answered 500\r\nX-Evil: täglich " + "x" * 1000)
    made = callback(call(), State.DEAD, ended, b"", NOW, most_attempts=3, retry_for_s=3600)
    assert made is not None
    sent = dict(made.headers)
    assert sent["X-Call-State"] == "dead"
    assert sent["X-Call-Reason"].startswith("the function answered 500??X-Evil: t?glich xxx")
    assert len(sent["X-Call-Reason"]) == LONGEST_REASON


@pytest.mark.parametrize(
    ("attempts", "expires", "tried"),
    [(1, NOW - 2, "0"), (3, NOW - 2, "2"), (3, NOW - 1, "3"), (3, 0.0, "3"), (11, 0.0, "10")],
    ids=[
        "expired before it began",
        "expired before its third attempt",
        "expired during it",
        "never expires",
        "taken too often",
    ],
)
def test_only_what_was_an_attempt_is_told_as_one(attempts: int, expires: float, tried: str) -> None:
    before = Outcome(status=500, started=NOW - 60, ended=NOW - 57)
    taken = msgspec.structs.replace(call(), attempts=attempts, expires=expires, outcome=before if attempts > 1 else None)
    sent = headers_of(outcome(0), taken)
    was_one = int(tried) == attempts or attempts == 1
    assert (sent["X-Retry"], sent["X-Duration-Seconds"]) == (tried, "1.250000" if was_one else "3.000000")


def test_functions_of_other_namespaces_are_named_with_theirs() -> None:
    assert headers_of(outcome(), call(namespace="shop"))["X-Function-Name"] == "hello.shop"


def test_a_body_that_was_cut_says_so() -> None:
    assert headers_of(outcome(206), call())["X-Pinnace-Body-Cut"] == "true"


def test_what_the_function_says_of_itself_or_of_the_connection_does_not_go_along() -> None:
    said = (
        ("X-Function-Status", "200"),
        ("x-call-id", "another"),
        ("X-Pinnace-Signature", "sha256=0"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "elsewhere"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Mine", "kept"),
    )
    sent = headers_of(outcome(500, said), call())
    assert sent["X-Function-Status"] == "500"
    assert sent["X-Call-Id"] == "0197-1"
    assert sent["X-Mine"] == "kept"
    lower = {name.lower() for name in sent}
    assert (
        not {"x-pinnace-signature", "connection", "x-hop", "content-length", "transfer-encoding", "host", "x-forwarded-for"}
        & lower
    )


def test_a_callback_has_none_of_its_own() -> None:
    made = callback(
        call(),
        State.SUCCEEDED,
        outcome(headers=(("X-Callback-Url", "http://example.com/again"),)),
        b"",
        NOW,
        most_attempts=1,
        retry_for_s=1,
    )
    assert made is not None
    again = Call(
        **{f: getattr(call(), f) for f in ("id", "queue", "function", "state", "method", "path", "body", "submitted", "due")},
        headers=made.headers,
        url=made.url,
    )
    assert callback(again, State.SUCCEEDED, outcome(), b"", NOW, most_attempts=1, retry_for_s=1) is None
