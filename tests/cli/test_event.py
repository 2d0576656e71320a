"""`faas event` against a gateway that answers from memory, and what it sends as the real one reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cloudevents.event import Event
from gateway.cloudevents.http_binding import read
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

GOT = {"function": "invoice", "namespace": "openfaas-fn", "callId": "01a2", "repeated": False}


def tells(gateway: Gateway, path: str, functions: list[dict[str, object]], status: int) -> None:
    said = {"events": [{"id": "17", "source": "/shop", "functions": functions}]}
    gateway.canned[f"POST {path}"] = (status, {"Content-Type": "application/json"}, json.dumps(said).encode())


def sent(gateway: Gateway) -> Event:
    """What the gateway makes of the last request."""
    (found,) = read(gateway.asked[-1].headers.items(), gateway.asked[-1].body)
    return found


def test_an_event_is_sent_and_told_who_got_it(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "/events", [GOT, GOT | {"function": "ship", "callId": "01a3", "repeated": True}], 202)
    done = faas("event", "send", "-t", "com.example.made", "-s", "/shop", "--id", "17", "-d", '{"total": 12.50}', "-n", "shop")
    assert [line.split() for line in done.out.splitlines()] == [
        ["FUNCTION", "CALL"],
        ["invoice", "01a2"],
        ["ship", "01a3", "sent", "before"],
    ]
    assert "faas async get CALL" in done.err
    event = sent(gateway)
    assert event.data == b'{"total": 12.50}'
    assert (
        event.attributes.items()
        >= {
            "type": "com.example.made",
            "source": "/shop",
            "id": "17",
            "datacontenttype": "application/json",
        }.items()
    )
    assert gateway.asked[-1].query == {"namespace": "shop"}


def test_attributes_of_any_kind_arrive_as_they_were_given(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "/events", [GOT], 202)
    given = ("--subject", 'Größe "50 %" \U0001f600', "-a", "traceid=a=b", "-a", "time=2026-01-31T12:30:05Z")
    assert faas("event", "send", "--type", "t", *given).code == 0
    assert dict(sent(gateway).attributes) | {"id": ""} == {
        "specversion": "1.0",
        "id": "",
        "source": "/faas",
        "type": "t",
        "subject": 'Größe "50 %" \U0001f600',
        "traceid": "a=b",
        "time": "2026-01-31T12:30:05Z",
    }
    first = sent(gateway).attributes["id"]
    faas("event", "send", "--type", "t")
    assert sent(gateway).attributes["id"] != first, "each is an event of its own"


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b'"x"', "application/json"), ("Größe".encode(), "text/plain; charset=utf-8"), (b"\xff", "application/octet-stream")],
)
def test_data_is_what_it_looks_like_unless_it_is_said(
    gateway: Gateway, faas: Faas, tmp_path: Path, content: bytes, kind: str
) -> None:
    tells(gateway, "/events", [GOT], 202)
    (tmp_path / "data").write_bytes(content)
    faas("event", "send", "-t", "t", "-d", f"@{tmp_path / 'data'}")
    assert (sent(gateway).data, sent(gateway).attributes["datacontenttype"]) == (content, kind)
    faas("event", "send", "-t", "t", "-d", f"@{tmp_path / 'data'}", "--content-type", "text/x")
    assert sent(gateway).attributes["datacontenttype"] == "text/x"


def test_an_event_that_nobody_wants_is_no_failure_but_said(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "/events", [], 202)
    done = faas("event", "send", "-t", "t")
    assert (done.code, done.out) == (0, "")
    assert done.err == "No function in openfaas-fn wants events of type t from /faas.\n"


def test_who_would_get_one_is_listed(gateway: Gateway, faas: Faas) -> None:
    tells(gateway, "/events/match", [{"function": "invoice", "namespace": "openfaas-fn"}], 200)
    done = faas("event", "match", "-t", "com.example.made")
    assert [line.split() for line in done.out.splitlines()] == [["FUNCTION", "NAMESPACE"], ["invoice", "openfaas-fn"]]
    assert json.loads(faas("event", "match", "-t", "x", "--json").out)["functions"][0]["function"] == "invoice"
    assert sent(gateway).attributes["type"] == "x"


def test_what_cannot_be_sent_is_said(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["POST /events"] = (400, {}, b"source 'a b' is no URI reference")
    done = faas("event", "send", "-t", "t", "-s", "a b")
    assert (done.code, "is no URI reference" in done.err) == (1, True)
    for words, why in (
        (("-a", "subject=x", "--subject", "y"), "--attribute subject: there is --subject for that"),
        (("-d", "@/nowhere"), "--data @/nowhere: No such file"),
        (("-a", "noequals"), "write NAME=VALUE"),
    ):
        done = faas("event", "send", "-t", "t", *words)
        assert (done.code, why in done.err) == (2, True), done.err
