"""What a request's head asks for, and what is wrong with it."""

from __future__ import annotations

import pytest

from gateway.asynchronous.calls import Headers, Submission, queue_of
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.intake import Target, submission_of
from gateway.asynchronous.settings import AsyncSettings
from gateway.edge.refusal import Refusal
from orchestration.events import FunctionChanged
from orchestration.names import FunctionId
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec

NOW = 1_700_000_000.0


def asked(*headers: tuple[str, str], target: str = "/async-function/echo") -> Submission | Refusal:
    functions = Functions()
    functions.apply(FunctionChanged(deploy(None, FunctionSpec(service="echo", image="x"), "sha256:0", 0.0)))
    return submission_of("POST", Target.of(target), headers, functions, AsyncSettings(), NOW)


def accepted(*headers: tuple[str, str], target: str = "/async-function/echo") -> Submission:
    submission = asked(*headers, target=target)
    assert isinstance(submission, Submission), submission
    return submission


@pytest.mark.parametrize(
    ("target", "name", "rest"),
    [
        ("/async-function/echo", "echo", "/"),
        ("/async-function/echo/", "echo", "/"),
        ("/async-function/echo?a=/b", "echo", "/?a=/b"),
        ("/async-function/echo.ns/a//b?c=d?e", "echo.ns", "/a//b?c=d?e"),
        ("/async-function/", "", "/"),
    ],
)
def test_a_target_is_a_name_and_a_rest(target: str, name: str, rest: str) -> None:
    assert Target.of(target) == Target(name, rest)


def test_a_plain_request_is_due_at_once_and_never_expires() -> None:
    wanted = accepted(("Host", "h"), ("X-A", "1"), ("X-a", "2"), ("Content-Length", "3"), ("X-Start-Time", "9"))
    assert (wanted.due, wanted.expires, wanted.queue) == (NOW, 0.0, "echo.openfaas-fn")
    assert wanted.headers == (("Host", "h"), ("X-A", "1"), ("X-a", "2"))


@pytest.mark.parametrize(
    ("header", "due"),
    [
        (("X-Delay-Seconds", "90"), NOW + 90),
        (("x-delay-seconds", "0.5"), NOW + 0.5),
        (("X-Delay-Until", "2023-11-14T22:15:00Z"), NOW + 100),
        (("X-Delay-Until", "2023-11-14T23:15:00+01:00"), NOW + 100),
        (("X-Delay-Until", "2001-01-01T00:00:00Z"), NOW),
    ],
)
def test_a_delay_is_a_number_or_a_time(header: tuple[str, str], due: float) -> None:
    wanted = accepted(header)
    assert (wanted.due, wanted.headers) == (due, ())


def test_time_to_live_counts_from_the_submission() -> None:
    assert accepted(("X-TTL-Seconds", "60")).expires == NOW + 60


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ((("X-Delay-Seconds", "soon"),), "X-Delay-Seconds: 'soon' is not a number"),
        ((("X-Delay-Seconds", "-1"),), "not a number"),
        ((("X-Delay-Seconds", "99999999999"),), "at most 31622400 (366 days)"),
        ((("X-Delay-Until", "tomorrow"),), "is not a time"),
        ((("X-Delay-Until", "2023-11-14T22:15:00"),), "no time zone"),
        ((("X-Delay-Until", "2123-11-14T22:15:00Z"),), "at most 366 days"),
        ((("X-Delay-Until", "2023-11-14T22:15:00Z"), ("X-Delay-Seconds", "1")), "contradict"),
        ((("X-TTL-Seconds", "x"),), "X-TTL-Seconds: 'x' is not a number"),
        ((("X-TTL-Seconds", "5"), ("X-Delay-Seconds", "5")), "would expire"),
        ((("X-TTL-Seconds", "0"),), "would expire"),
        ((("Idempotency-Key", "k" * 256),), "256 characters"),
    ],
)
def test_what_makes_no_sense_is_said(headers: Headers, word: str) -> None:
    refusal = asked(*headers)
    assert isinstance(refusal, Refusal) and refusal.status == 400 and word in refusal.text


def test_an_unknown_function_is_not_found() -> None:
    refusal = asked(target="/async-function/nobody")
    assert isinstance(refusal, Refusal) and refusal.status == 404


def test_calls_to_a_tag_wait_in_their_functions_line() -> None:
    assert queue_of(FunctionId("ns", "echo--next")) == queue_of(FunctionId("ns", "echo"))
    wanted = accepted(target="/async-function/echo--next/x")
    assert (wanted.queue, wanted.function.name) == ("echo.openfaas-fn", "echo--next")


def test_wishes_and_keys_are_taken() -> None:
    wanted = accepted(("X-Call-Id", "mine"), ("Idempotency-Key", " k "))
    assert (wanted.id, wanted.idempotency_key) == ("mine", "k")
    assert wanted.headers == (("Idempotency-Key", " k "),)
