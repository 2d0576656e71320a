"""When a call is tried again, when it is given up, and how long it waits: OpenFaaS's rules, drawn waits."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asynchronous.calls import Body, Call, State
from gateway.asynchronous.retry import Again, Answer, Dead, Postponed, Succeeded, after, before, retry_after_s
from orchestration.names import FunctionId
from orchestration.queueing import RetrySettings

NOW = 1_700_000_000.0
SETTINGS = RetrySettings(attempts=4)


def call_of(attempts: int = 1, expires: float = 0.0) -> Call:
    return Call(
        id="c",
        queue="echo.openfaas-fn",
        function=FunctionId("openfaas-fn", "echo"),
        state=State.RUNNING,
        method="POST",
        path="/",
        headers=(),
        body=Body(),
        submitted=NOW,
        due=NOW,
        expires=expires,
        attempts=attempts,
    )


INTERNAL = (("X-OpenFaaS-Internal", "gateway"),)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(200), Succeeded),
        (Answer(202), Succeeded),
        (Answer(302), Succeeded),
        (Answer(400), Dead),
        (Answer(404), Dead),
        (Answer(501), Dead),
        (Answer(408), Again),
        (Answer(429), Again),
        (Answer(500), Again),
        (Answer(502), Again),
        (Answer(503), Again),
        (Answer(504), Again),
        (Answer(404, INTERNAL), Again),
        (Answer(413, INTERNAL), Again),
        (Answer(0, failure="the connection to the edge was lost before it answered"), Again),
        (Answer(0, failure="the edge cannot be reached", unsent=True), Postponed),
    ],
)
def test_what_becomes_of_an_attempt(answer: Answer, kind: type) -> None:
    assert type(after(call_of(), answer, SETTINGS, NOW, lambda: 0.5)) is kind


def test_a_call_for_which_only_a_slot_was_missing_has_not_begun() -> None:
    busy = Answer(504, (*INTERNAL, ("X-Pinnace-Busy", "true"), ("Retry-After", "1")))
    assert after(call_of(attempts=4), busy, SETTINGS, NOW, lambda: 0.0) == Postponed()
    assert isinstance(after(call_of(expires=NOW), busy, SETTINGS, NOW, lambda: 0.0), Dead)
    assert isinstance(after(call_of(), Answer(504, (("X-Pinnace-Busy", "true"),)), SETTINGS, NOW, lambda: 0.0), Again)


def test_the_last_attempt_is_the_last() -> None:
    verdict = after(call_of(attempts=4), Answer(503), SETTINGS, NOW, lambda: 0.0)
    assert verdict == Dead("the function answered 503 at the last of 4 attempts")


@pytest.mark.parametrize(
    ("attempts", "chance", "wait_s"), [(1, 0, 10), (1, 1, 20), (2, 0, 20), (2, 1, 40), (3, 0.5, 60), (9, 0, 60), (9, 1, 120)]
)
def test_waits_double_from_the_least_to_the_longest(attempts: int, chance: float, wait_s: float) -> None:
    verdict = after(call_of(attempts), Answer(500), RetrySettings(attempts=20), NOW, lambda: chance)
    assert verdict == Again(NOW + wait_s, "the function answered 500")


@given(st.integers(1, 999), st.floats(0, 1), st.floats(0, 3600), st.floats(0, 3600))
def test_a_wait_is_never_out_of_its_bounds(attempts: int, chance: float, one_s: float, other_s: float) -> None:
    settings = RetrySettings(attempts=1000, least_wait_s=min(one_s, other_s), longest_wait_s=max(one_s, other_s))
    verdict = after(call_of(attempts), Answer(500), settings, NOW, lambda: chance)
    assert isinstance(verdict, Again)
    assert settings.least_wait_s - 1e-3 <= verdict.due - NOW <= settings.longest_wait_s + 1e-3


def test_retry_after_is_honoured_but_not_below_the_least_wait() -> None:
    def due(status: int, text: str) -> float:
        verdict = after(call_of(), Answer(status, (("retry-after", text),)), SETTINGS, NOW, lambda: 0.0)
        assert isinstance(verdict, Again)
        return verdict.due - NOW

    assert due(429, "300") == 300
    assert due(503, formatdate(NOW + 77, usegmt=True)) == 77
    assert due(503, "1") == 10
    assert due(500, "300") == 10
    assert due(429, "soon") == 10


@given(st.text(max_size=40))
def test_any_retry_after_says_a_bounded_time_or_nothing(text: str) -> None:
    said = retry_after_s(text, NOW)
    assert said is None or 0 <= said <= 86_400


def test_an_edge_that_is_away_is_tried_soon() -> None:
    assert after(call_of(), Answer(0, failure="away"), SETTINGS, NOW, lambda: 0.0) == Again(NOW + 1, "away")


def test_a_call_that_would_be_too_late_is_given_up() -> None:
    verdict = after(call_of(expires=NOW + 5), Answer(500), SETTINGS, NOW, lambda: 0.0)
    assert verdict == Dead("the function answered 500, and it would have expired before the next attempt")
    assert before(call_of(expires=NOW), SETTINGS, NOW) == Dead("expired before it could be carried out")
    assert before(call_of(expires=NOW + 1), SETTINGS, NOW) is None


def test_a_call_that_kills_whoever_carries_it_out_is_given_up() -> None:
    assert before(call_of(attempts=4), SETTINGS, NOW) is None
    dead = before(call_of(attempts=5), SETTINGS, NOW)
    assert dead is not None and dead.reason.startswith("none of 4 attempts came to an end")


def test_what_the_platform_says_itself_is_part_of_the_reason_and_what_a_function_says_is_not() -> None:
    gone = Answer(404, INTERNAL, said="function echo not found")
    reason = "the gateway answered 404 (function echo not found)"
    assert after(call_of(), gone, SETTINGS, NOW, lambda: 0.0) == Again(NOW + SETTINGS.least_wait_s, reason)
    assert after(call_of(attempts=4), gone, SETTINGS, NOW, lambda: 0.0) == Dead(f"{reason} at the last of 4 attempts")
    secret = Answer(500, said="a secret")
    assert after(call_of(), secret, SETTINGS, NOW, lambda: 0.0) == Again(
        NOW + SETTINGS.least_wait_s, "the function answered 500"
    )
