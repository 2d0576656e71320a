"""`faas async` against a gateway that answers from memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.commands.asynchronous import EVERY_S, Progress, queue_table
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway


def call(**fields: Any) -> dict[str, Any]:
    return {
        "id": "a1",
        "function": "echo.openfaas-fn",
        "queue": "echo.openfaas-fn",
        "state": "succeeded",
        "method": "POST",
        "path": "/",
        "bodyBytes": 3,
        "submittedAt": 1_700_000_000.0,
        "dueAt": 1_700_000_000.0,
        "startedAt": 1_700_000_000.0,
        "endedAt": 1_700_000_002.0,
        "attempts": 2,
        "response": {"status": 200, "headers": [["Content-Type", "text/plain"]], "bodyBytes": 2, "body": "ok"},
        **fields,
    }


def queue(name: str, waiting: int, running: int = 0, dead: int = 0, late_s: float = 0.0) -> dict[str, Any]:
    return {"queue": name, "waiting": waiting, "running": running, "dead": dead, "bytes": 0, "lateS": late_s}


def tells(gateway: Gateway, what: str, value: object, status: int = 200) -> None:
    gateway.canned[what] = (status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def test_list_shows_why_a_call_is_dead(gateway: Gateway, faas: Faas) -> None:
    dead = call(id="b2", state="dead", reason="the function answered 500 at the last of 3 attempts")
    tells(gateway, "GET /api/v1/async/calls", {"calls": [dead, call()], "next": ""})
    done = faas("async", "list", "echo", "--state", "dead")
    head, first, second = done.out.splitlines()
    assert head.split() == ["ID", "FUNCTION", "STATE", "AGE", "ATTEMPTS", "STATUS", "WHY"]
    assert first.startswith("b2") and first.endswith("at the last of 3 attempts") and second.startswith("a1")
    assert gateway.asked[-1].query == {"name": "echo", "state": "dead", "limit": "20"}


def test_a_namespace_alone_is_no_filter_and_refused(faas: Faas) -> None:
    done = faas("async", "list", "-n", "shop")
    assert (done.code, done.out) == (2, "") and "name one, or leave it out" in done.err


def test_list_goes_on_to_the_next_page(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "GET /api/v1/async/calls", {"calls": [call()], "next": "a1"})
    assert len(json.loads(faas("async", "list", "--limit", "3", "--json").out)) == 3
    assert gateway.asked[-1].query == {"limit": "1", "before": "a1"}


def test_a_script_lists_ids_page_by_page(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "GET /api/v1/async/calls", {"calls": [call(id="b2"), call()], "next": "a1"})
    assert faas("async", "list", "echo", "-q", "--limit", "2", "--before", "c3").out == "b2\na1\n"
    assert gateway.asked[-1].query == {"name": "echo", "limit": "2", "before": "c3"}
    assert "--before a1 goes on" in faas("async", "list", "--limit", "2").err
    tells(gateway, "GET /api/v1/async/calls", {"calls": [], "next": ""})
    assert faas("async", "list", "-q").out == ""


def test_ids_of_standard_input_are_replayed_and_cancelled(gateway: Gateway, faas: Faas) -> None:
    for name in ("a1", "b2"):
        tells(gateway, f"POST /api/v1/async/calls/{name}/replay", {}, 202)
        tells(gateway, f"DELETE /async-function/{name}", {"was": "waiting"}, 202)
    tells(gateway, "POST /api/v1/async/calls/c3/replay", "call c3 is not dead: it waits", 409)
    done = faas("async", "replay", "-", stdin="a1\nc3\n\nb2\n")
    assert done.out == "a1 will be tried again.\nb2 will be tried again.\n"
    assert (done.code, "c3" in done.err) == (1, True)
    done = faas("async", "cancel", "-", stdin="a1\nb2\n")
    assert (done.code, done.out.count("Cancelled ")) == (0, 2)
    assert faas("async", "replay", "-", stdin="").code == 0


def test_get_shows_a_call_and_waits_for_it(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "GET /async-function/a1", call())
    done = faas("async", "get", "a1", "--wait", "5s")
    for words in ("State:      succeeded", "Attempts:   2", "Took:       2.0 s", "Status:     200", "Body:       ok"):
        assert words in done.out, words
    assert gateway.asked[-1].query["wait"].startswith(("4.", "5."))
    assert json.loads(faas("async", "get", "a1", "-j").out) == call()


@pytest.mark.parametrize("state", ["dead", "cancelled"])
def test_who_waits_for_a_call_that_does_not_succeed_is_told_by_the_exit_code(gateway: Gateway, faas: Faas, state: str) -> None:
    tells(gateway, "GET /async-function/a1", call() | {"state": state})
    assert faas("async", "get", "a1", "--wait", "5s").code == 1
    assert faas("async", "get", "a1").code == 0


@pytest.mark.parametrize(
    ("state", "response"),
    [
        ("waiting", {"status": 500, "headers": [["Content-Type", "text/plain"]]}),  # between attempts no body is kept
        ("succeeded", {"status": 204}),
        ("succeeded", {"status": 200, "headers": [], "bodyBytes": 70_000, "cut": True}),
    ],
)
def test_a_call_is_shown_whose_answer_has_no_body_to_show(
    gateway: Gateway, faas: Faas, state: str, response: dict[str, Any]
) -> None:
    tells(gateway, "GET /async-function/a1", call(state=state, response=response))
    done = faas("async", "get", "a1")
    assert (done.code, done.err) == (0, "") and "Status:" in done.out
    assert ("the first 70000 bytes" in done.out) is ("bodyBytes" in response)


def test_callbacks_are_listed_and_replayed_by_the_name_of_their_queue(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "GET /api/v1/async/calls", {"calls": [call()], "next": ""})
    assert faas("async", "list", "echo.other#callback").code == 0
    assert gateway.asked[-1].query == {"name": "echo#callback", "namespace": "other", "limit": "20"}
    tells(gateway, "POST /api/v1/functions/echo%23callback/replay", {"replayed": 1}, 202)
    assert faas("async", "replay", "--all", "echo#callback").out == "1 call of echo#callback will be tried again.\n"


def test_a_list_of_a_function_that_is_not_there_says_so(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "GET /api/v1/async/calls", {"calls": [], "next": ""})
    tells(gateway, "GET /system/function/echo", {})
    tells(gateway, "GET /system/function/ecko", {}, 404)
    assert faas("async", "list", "echo").out == "No such calls.\n"
    done = faas("async", "list", "ecko#callback", "-q")
    assert (done.code, done.err) == (1, "Error: there is no function ecko in namespace openfaas-fn\n")


def test_a_callback_is_told_from_the_calls_of_its_function(gateway: Gateway, faas: Faas) -> None:
    callback = call() | {"queue": "echo.openfaas-fn#callback"}
    tells(gateway, "GET /async-function/a1", callback)
    assert "Queue:      echo.openfaas-fn#callback" in faas("async", "get", "a1").out
    tells(gateway, "GET /api/v1/async/calls", {"calls": [callback], "next": ""})
    assert "echo.openfaas-fn#callback" in faas("async", "list", "echo").out


def test_a_result_is_printed_as_it_is(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "GET /async-function/a1", call())
    gateway.canned["GET /async-function/a1/result"] = (200, {"X-Result-Cut": "true"}, b"ok\n")
    done = faas("async", "get", "a1", "--result")
    assert (done.code, done.out) == (0, "ok\n")
    assert "beginning" in done.err
    gateway.canned["GET /async-function/a1/result"] = (404, {"X-OpenFaaS-Internal": "gateway"}, b"it is waiting\n")
    done = faas("async", "get", "a1", "-r")
    assert (done.code, done.out, done.err) == (1, "", "it is waiting\n")


def test_a_call_that_is_not_known_is_said(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["GET /async-function/nobody"] = (404, {}, b"no")
    done = faas("async", "get", "nobody")
    assert done.code == 1 and "there is no call nobody" in done.err
    assert faas("async", "get", "a/b").code == 2


def test_cancel_says_what_each_call_was(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "DELETE /async-function/a1", {"id": "a1", "state": "cancelled", "was": "running"}, 202)
    gateway.canned["DELETE /async-function/b2"] = (409, {}, b"call b2 has ended already: it is dead\n")
    done = faas("async", "cancel", "a1", "b2")
    assert (done.code, done.out) == (1, "Cancelled a1; it was running.\n")
    assert done.err == "Error: call b2 has ended already: it is dead (HTTP 409)\n"


def test_replay_takes_ids_or_a_function(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "POST /api/v1/async/calls/a1/replay", {"replayed": 1}, 202)
    tells(gateway, "POST /api/v1/functions/echo/replay", {"replayed": 3}, 202)
    assert faas("async", "replay", "a1").out == "a1 will be tried again.\n"
    assert faas("async", "replay", "--all", "echo.other").out == "3 calls of echo will be tried again.\n"
    assert gateway.asked[-1].query == {"namespace": "other"}
    assert faas("async", "replay").code == faas("async", "replay", "a1", "--all", "echo").code == 2


def test_top_has_the_longest_queue_first(gateway: Gateway, faas: Faas, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr("cli.commands.asynchronous.time.sleep", looks.append)
    tells(gateway, "GET /api/v1/async/queues", [queue("a", 1), queue("b", 9, 1, 2, 75.0)])
    head, first, second = faas("async", "top").out.splitlines()
    assert head.split() == ["QUEUE", "WAITING", "RUNNING", "DEAD", "LATE", "BY", "SHRINKS", "BY", "DONE", "IN"]
    assert first.split() == ["b", "9", "1", "2", "75", "s", "0.0/s"] and second.split() == ["a", "1", "0", "0", "0.0/s"]
    assert looks == [EVERY_S]  # how fast they shrink takes a second look
    tells(gateway, "GET /api/v1/async/queues", [queue("b", 0, 0, 2)])
    assert faas("async", "top", "--once").out.splitlines()[1].split() == ["b", "0", "0", "2"]
    assert looks == [EVERY_S]


def test_progress_says_when_a_backlog_will_be_done() -> None:
    progress = Progress()
    for second in range(30):
        progress.saw([queue("a", 1000 - 20 * second)], float(second))
    assert progress.rates() == {"a": pytest.approx(20.0)}
    (line,) = queue_table([queue("a", 400)], progress.rates())[1:]
    assert line.split() == ["a", "400", "0", "0", "20.0/s", "20", "s"]


def test_a_gateway_without_queues_is_said(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["GET /api/v1/async/queues"] = (404, {}, b"not found")
    done = faas("async", "top")
    assert done.code == 1 and "does not tell of asynchronous calls" in done.err
