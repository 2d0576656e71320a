"""How a call is told."""

from __future__ import annotations

import msgspec

from gateway.asynchronous.calls import Body, Call, Outcome, State
from gateway.asynchronous.told import told
from orchestration.names import FunctionId

WAITING = Call(
    id="c",
    queue="echo.openfaas-fn",
    function=FunctionId("openfaas-fn", "echo"),
    state=State.WAITING,
    method="POST",
    path="/x",
    headers=(("Authorization", "secret"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-00")),
    body=Body(3, b"abc"),
    submitted=1.0,
    due=2.0,
)


def as_json(call: Call) -> dict[str, object]:
    value: dict[str, object] = msgspec.json.decode(msgspec.json.encode(told(call)))
    return value


def test_a_call_that_waits_has_no_response_and_keeps_what_was_sent_to_itself() -> None:
    assert as_json(WAITING) == {
        "id": "c",
        "function": "echo.openfaas-fn",
        "queue": "echo.openfaas-fn",
        "state": "waiting",
        "method": "POST",
        "path": "/x",
        "bodyBytes": 3,
        "submittedAt": 1.0,
        "dueAt": 2.0,
        "attempts": 0,
        "trace": "a" * 32,
    }


def test_a_body_is_told_as_text_or_else_coded_or_else_by_its_length() -> None:
    ended = msgspec.structs.replace(
        WAITING, state=State.SUCCEEDED, ended=4.0, outcome=Outcome(status=200, started=3.0, ended=4.0)
    )

    def response(body: Body) -> object:
        return as_json(msgspec.structs.replace(ended, result=body))["response"]

    assert response(Body(2, b"ok")) == {"status": 200, "bodyBytes": 2, "body": "ok"}
    assert response(Body(1, b"\xff")) == {"status": 200, "bodyBytes": 1, "bodyBase64": "/w=="}
    assert response(Body(99999, None, "file")) == {"status": 200, "bodyBytes": 99999}
    assert response(Body()) == {"status": 200}


def test_a_call_that_got_no_answer_has_a_reason_and_no_response() -> None:
    dead = msgspec.structs.replace(
        WAITING, state=State.DEAD, attempts=2, ended=9.0, outcome=Outcome(reason="no answer", started=3.0, ended=4.0)
    )
    value = as_json(dead)
    assert (value["reason"], value["startedAt"], value["endedAt"], "response" in value) == ("no answer", 3.0, 9.0, False)


def test_a_call_that_had_expired_when_its_turn_came_was_not_attempted() -> None:
    outcome = Outcome(reason="expired before it could be carried out", started=5.0, ended=5.0)
    dead = msgspec.structs.replace(WAITING, state=State.DEAD, attempts=1, expires=5.0, ended=5.0, outcome=outcome)
    value = as_json(dead)
    assert (value["attempts"], "startedAt" in value, value["endedAt"]) == (0, False, 5.0)
    replayed = msgspec.structs.replace(dead, state=State.WAITING, attempts=0, expires=0.0, ended=0.0)
    assert as_json(replayed)["attempts"] == 0
