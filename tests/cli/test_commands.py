"""The commands that ask a gateway for one thing, against a stub of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway


def deployed(gateway: Gateway, name: str, namespace: str = "openfaas-fn", **fields: object) -> None:
    status = {"name": name, "namespace": namespace, "image": f"{name}:latest", "replicas": 1, "availableReplicas": 1}
    gateway.functions[(namespace, name)] = {**status, "createdAt": "2020-01-01T00:00:00Z", **fields}


def test_list_for_people_and_for_programs(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "web", invocationCount=2)
    deployed(gateway, "api", invocationCount=30, replicas=0, availableReplicas=0)
    deployed(gateway, "other", "dev")
    lines = faas("list").out.splitlines()
    assert [line.split()[:3] for line in lines] == [["NAME", "READY", "CALLS"], ["api", "0/0", "30"], ["web", "1/1", "2"]]
    assert [row["name"] for row in json.loads(faas("ls", "--json").out)] == ["api", "web"]
    assert faas("list", "-n", "dev", "--quiet").out == "other\n"
    deployed(gateway, "web", invocationCount=200)
    assert faas("list", "--sort", "invocations", "-q").out == "web\napi\n"


def test_an_empty_list_is_json_all_the_same(gateway: Gateway, faas: Faas) -> None:
    assert json.loads(faas("list", "--json").out) == []
    done = faas("list")
    assert (done.code, done.out) == (0, "")
    assert "faas new hello" in done.err


def test_describe_shows_what_is_true_now(gateway: Gateway, faas: Faas) -> None:
    deployed(
        gateway,
        "hello",
        envVars={"PASSWORD": "hunter2", "A": "1"},
        secrets=["key"],
        labels={"b": "2", "a": "1"},
        limits={"memory": "64Mi"},
        usage={"cpu": 12.4, "totalMemoryBytes": 30 << 20},
    )
    out = faas("describe", "hello").out
    for words in (
        "Status:       Ready",
        "1 ready of 1",
        f"{gateway.url}/function/hello",
        "A, PASSWORD",
        "memory=64Mi",
        "12m CPU, 30 MiB memory",
        "secrets are mounted at /var/openfaas/secrets",
        "cpu: not enforced",
        "hello-00001-abc  hello-00001  Running         2",
        "hello-00001  100%",
        "1 to 5, concurrency 7 each (70% of 10), to zero after 15m idle or as learnt",
        "12 / target 7 → 2",
        "1 → 2",
    ):
        assert words in out, words
    assert "hunter2" not in out
    assert out.count("1 → 2") == 5, "the newest few"
    details = json.loads(faas("describe", "hello", "--json").out)
    assert details["condition"] == {"phase": "Ready", "message": ""}


def test_describe_shows_when_timers_call(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "hello")
    path = "GET /api/v1/functions/hello/timers"
    faas("describe", "hello")
    assert gateway.asked_for(path) == [], "only for a function that has timers"
    deployed(gateway, "hello", annotations={"topic": "cron-function", "schedule": "0 8 * * *"})
    coming = ["2026-01-31T07:00:00Z", "2026-02-01T07:00:00Z"]
    timer = {
        "schedule": "0 8 * * *",
        "zone": "Europe/Berlin",
        "next": coming,
        "last": "2026-01-30T07:00:00Z",
        "lastCall": "id-7",
    }
    fresh = {"schedule": "@hourly", "zone": "UTC", "next": coming[:1], "last": None, "lastCall": None}
    gateway.canned[path] = (200, {}, json.dumps({"timers": [timer, fresh], "trouble": ""}).encode())
    out = faas("describe", "hello").out
    assert (
        "0 8 * * * Europe/Berlin: next 2026-01-31T07:00:00Z, 2026-02-01T07:00:00Z; last 2026-01-30T07:00:00Z, call id-7\n"
        in out
    )
    assert "@hourly UTC: next 2026-01-31T07:00:00Z\n" in out
    assert json.loads(faas("describe", "hello", "--json").out)["timers"]["timers"][0]["lastCall"] == "id-7"
    gateway.canned[path] = (200, {}, json.dumps({"timers": [], "trouble": "the minute cannot be"}).encode())
    assert "Timers:       the minute cannot be\n" in faas("describe", "hello").out


def test_describe_shows_what_waits_and_what_was_given_up(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "hello")
    assert "Asynchronous" not in faas("describe", "hello").out
    held = {"waiting": 3, "running": 1, "dead": 2}
    rows = [
        {"queue": "hello.openfaas-fn", **held},
        {"queue": "hello.openfaas-fn#callback", **held, "dead": 0},
        {"queue": "hello.dev", **held},
    ]
    gateway.canned["GET /api/v1/async/queues"] = (200, {}, json.dumps(rows).encode())
    out = faas("describe", "hello").out
    assert "Asynchronous:  3 waiting, 1 running, 2 dead (faas async list hello --state dead)\n" in out
    assert "callbacks: 3 waiting, 1 running, 0 dead\n" in out
    assert out.count("waiting") == 2
    gateway.canned["GET /api/v1/async/queues"] = (503, {}, b"the store is away")
    assert faas("describe", "hello").code == 0


def test_describe_counts_the_replicas_of_other_revisions(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "hello")
    details = json.loads(faas("describe", "hello", "--json").out)
    other = {"id": "hello-00002-xyz", "revision": "hello-00002", "restarts": 0}
    for state, shown in (("Running", "1 ready of 1; 1 of other revisions\n"), ("Pending", "1 ready of 1\n")):
        told = details | {"replicas": [*details["replicas"], other | {"state": state}]}
        gateway.canned["GET /api/v1/functions/hello"] = (200, {}, json.dumps(told).encode())
        assert f"Replicas:   {shown}" in faas("describe", "hello").out


def test_why_a_revision_failed_does_not_say_its_name_again(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "hello")
    details = json.loads(faas("describe", "hello", "--json").out)
    details["revisions"][0] |= {"name": "hello-00001", "failure": "hello-00001: exited with status 3"}
    gateway.canned["GET /api/v1/functions/hello"] = (200, {}, json.dumps(details).encode())
    assert faas("revisions", "hello").out.splitlines()[-1].endswith("  exited with status 3")


def test_describe_shows_what_the_last_starts_took(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "hello")
    lines = faas("describe", "hello", "--starts").out.splitlines()
    assert lines[0].split() == ["STARTED", "REPLICA", "BY", "PLACED", "IMPORTED", "MADE", "READY", "TOTAL", "MS", "FAILED"]
    assert lines[1].split()[-7:] == ["hello-00002-x", "zygote", "0.0", "0.0", "2.2", "4.0", "6.3"]
    assert json.loads(faas("describe", "hello", "--starts", "--json").out)[0]["kind"] == "zygote"


def test_describe_says_in_one_line_why_it_is_broken(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "hello")
    gateway.failing["hello"] = "handler.py line 3: ModuleNotFoundError: No module named 'foo'"
    assert (
        "Status:     Failed: handler.py line 3: ModuleNotFoundError: No module named 'foo'\n" in faas("describe", "hello").out
    )


def test_describe_works_with_a_stock_gateway(gateway: Gateway, faas: Faas) -> None:
    gateway.stock = True
    deployed(gateway, "hello", availableReplicas=0)
    assert "Status:     Not ready" in faas("describe", "hello").out
    assert json.loads(faas("describe", "hello", "--json").out)["name"] == "hello"


@pytest.mark.parametrize("command", ["describe", "ready", "invoke", "scale", "remove"])
def test_a_name_may_say_its_namespace(gateway: Gateway, faas: Faas, command: str) -> None:
    count = ["1"] if command == "scale" else []
    deployed(gateway, "two", "dev")
    done = faas(command, "two.dev", "-n", "prod", *count)
    assert (done.code, done.err) == (2, "Error: two.dev is in the namespace dev, but --namespace says prod\n")
    assert gateway.asked == []
    assert faas(command, "two.dev", *count).code == 0


@pytest.mark.parametrize("command", ["describe", "ready", "invoke", "scale"])
def test_an_unknown_function_is_named(gateway: Gateway, faas: Faas, command: str) -> None:
    done = faas(command, "ghost", *(["1"] if command == "scale" else []))
    assert done.code == 1
    assert done.out == ""
    assert done.err == "Error: there is no function ghost in namespace openfaas-fn\n"
    assert len(done.err.splitlines()) == 1


def test_invoke_sends_standard_input_and_prints_the_answer(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "echo")
    assert faas("invoke", "echo", stdin=b"hi\n")[:2] == (0, "hi\n")
    asked = gateway.asked[-1]
    assert (asked.method, asked.path, asked.headers["content-type"]) == ("POST", "/function/echo", "text/plain")
    assert asked.headers["content-length"] == "3"


def test_invoke_passes_what_it_is_given(gateway: Gateway, faas: Faas, project: Path) -> None:
    deployed(gateway, "echo", "dev")
    (project / "body.json").write_text('{"a": 1}')
    gateway.canned["PUT /function/echo.dev/x/y"] = (200, {}, b"ok")
    arguments = ["-m", "put", "-H", "X-A: b=c", "-H", "X-B=1", "--query", "q=1 2", "--content-type", "application/json"]
    assert faas("invoke", "echo", "-n", "dev", "--path", "/x/y", "-d", "@body.json", *arguments).out == "ok"
    asked = gateway.asked[-1]
    assert (asked.headers["x-a"], asked.headers["x-b"], asked.query) == ("b=c", "1", {"q": "1 2"})
    assert (asked.headers["content-type"], asked.body) == ("application/json", b'{"a": 1}')


def test_invoke_streams_a_body_that_is_longer_than_it_holds(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "echo")
    body = b"0123456789abcdef" * (3 << 16)
    assert len(faas("invoke", "echo", stdin=body).out) == len(body)
    assert gateway.asked[-1].headers["transfer-encoding"] == "chunked"


def test_invoke_of_a_failing_function_prints_its_answer_and_exits_1(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["POST /function/bad"] = (500, {"X-Thing": "1"}, b"broken")
    done = faas("invoke", "bad", "-i", "-d", "x")
    assert (done.code, done.out) == (1, "broken")
    assert "HTTP 500" in done.err
    assert "x-thing: 1" in done.err


def test_invoke_says_where_the_reason_of_a_failure_stands(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["POST /function/bad.dev"] = (500, {"X-Call-Id": "c-1"}, b"broken")
    done = faas("invoke", "bad", "-n", "dev", "-d", "x")
    assert done.err == "bad answered with HTTP 500; faas logs bad -n dev --call c-1 says why\n"
    gateway.canned["POST /function/bad"] = (404, {"X-Call-Id": "c-1"}, b"no such order")
    assert faas("invoke", "bad", "-d", "x").err == "bad answered with HTTP 404\n"
    ended = {"X-OpenFaaS-Internal": "gateway", "X-Call-Id": "c-2"}
    gateway.canned["POST /function/bad"] = (502, ended, b"the replica closed the connection without an answer\n")
    assert faas("invoke", "bad", "-d", "x").err.endswith(" (HTTP 502); faas logs bad --call c-2 says why\n")


def test_invoke_of_a_tag_that_is_not_there_names_the_tag(gateway: Gateway, faas: Faas) -> None:
    said = b"function web.openfaas-fn has no tag 'blue': its tags are green\n"
    gateway.canned["POST /function/web"] = (404, {"X-OpenFaaS-Internal": "gateway"}, said)
    done = faas("invoke", "web", "-H", "X-Pinnace-Tag: blue", "-d", "x")
    assert (done.code, done.err) == (1, "Error: function web.openfaas-fn has no tag 'blue': its tags are green (HTTP 404)\n")


def test_invoke_tells_the_gateways_errors_from_the_functions(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["POST /function/slow"] = (504, {"X-OpenFaaS-Internal": "edge"}, b"no replica in 60 s")
    done = faas("invoke", "slow")
    assert (done.code, done.out, done.err) == (1, "", "Error: slow: no replica in 60 s (HTTP 504)\n")


@pytest.mark.parametrize(
    ("status", "said"),
    [(200, "never cannot run: handler.py, line 2: no x (HTTP 503)"), (401, "never: function never cannot run (HTTP 503)")],
)
def test_invoke_asks_why_a_function_cannot_run(gateway: Gateway, faas: Faas, status: int, said: str) -> None:
    refusal = {"X-OpenFaaS-Internal": "gateway"}
    gateway.canned["POST /function/never"] = (503, refusal, b"function never cannot run\n")
    details = b'{"replicas": [{"state": "CrashLoopBackOff", "reason": "handler.py, line 2: no x"}]}'
    gateway.canned["GET /api/v1/functions/never"] = (status, {}, details)
    done = faas("invoke", "never", "-d", "x")
    assert (done.code, done.out, done.err) == (1, "", f"Error: {said}\n")


def test_invoke_without_a_body(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["GET /function/page"] = (200, {}, b"<p>")
    assert faas("invoke", "page", "-m", "GET", stdin=b"unread").out == "<p>"
    assert gateway.asked[-1].body == b""


def test_an_async_call_tells_its_id(gateway: Gateway, faas: Faas) -> None:
    gateway.canned["POST /async-function/job"] = (202, {"X-Call-Id": "abc"}, b"")
    done = faas("invoke", "job", "--async", "-d", "x")
    assert (done.code, done.out, done.err) == (
        0,
        "abc\n",
        "Accepted: faas async get abc --wait 30s shows what becomes of it.\n",
    )


LINES = [
    {"name": "f", "instance": "f-1", "timestamp": "2026-01-31T12:00:00.5Z", "text": "one\n", "callId": "c1", "traceId": "t1"},
    {"name": "f", "instance": "f-2", "timestamp": "2026-01-31T12:00:01Z", "text": "two"},
]


def test_logs_for_people_and_for_programs(gateway: Gateway, faas: Faas, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.log_lines = list(LINES)
    assert faas("logs", "f", "--no-time").out == "one\ntwo\n"
    assert faas("logs", "f", "--no-time", "--call-id", "--show-instance").out == "f-1  c1  one\nf-2  -  two\n"
    assert faas("logs", "f", "--no-time", "--trace-id").out == "t1  one\n-  two\n"
    assert [json.loads(line) for line in faas("logs", "f", "--json").out.splitlines()] == LINES
    assert faas("logs", "f", "-o", "json", "--call", "c1").out.count("\n") == 1
    assert faas("logs", "f").out.splitlines()[0].endswith("one")


CALL = {"name": "f", "namespace": "openfaas-fn", "call": {"id": "c9", "status": 204}}


def test_of_a_function_that_wrote_nothing_it_is_said(gateway: Gateway, faas: Faas) -> None:
    done = faas("logs", "f")
    assert (done.code, done.out, done.err) == (0, "", "Note: f has written nothing; what its code prints is shown here\n")
    assert faas("logs", "f", "--since", "5m").err.startswith("Note: f has written nothing since 5m; ")


def test_of_a_call_that_wrote_nothing_it_is_said_what_is_known(gateway: Gateway, faas: Faas) -> None:
    gateway.log_lines = list(LINES)
    unknown = faas("logs", "f", "--call", "c9")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("Error: nothing is known of call c9: f has no line of it, ")
    gateway.canned["GET /api/v1/calls/c9"] = (200, {}, json.dumps(CALL).encode())
    silent = faas("logs", "f", "--call", "c9")
    assert (silent.code, silent.err) == (0, "Note: call c9 ended with 204 and wrote nothing that is kept\n")
    elsewhere = faas("logs", "g", "--call", "c9")
    told = "Error: call c9 is one of f.openfaas-fn: faas logs f.openfaas-fn --call c9\n"
    assert (elsewhere.code, elsewhere.err) == (1, told)
    gateway.canned["GET /async-function/c8"] = (200, {}, json.dumps({"function": "f.dev", "state": "waiting"}).encode())
    assert faas("logs", "f", "-n", "dev", "--call", "c8").err == "Note: call c8 is waiting and wrote nothing that is kept\n"


def test_logs_ask_for_what_is_wanted(gateway: Gateway, faas: Faas) -> None:
    faas("logs", "f", "-f", "--tail", "5", "--since", "2026-01-31T12:00:00Z", "--instance", "f-1", "-n", "dev")
    assert gateway.asked[-1].query == {
        "name": "f",
        "namespace": "dev",
        "instance": "f-1",
        "follow": "true",
        "tail": "5",
        "since": "2026-01-31T12:00:00.000000Z",
    }
    faas("logs", "f")
    assert gateway.asked[-1].query == {"name": "f", "follow": "false", "tail": "-1"}


@pytest.mark.parametrize("since", ["yesterday", "2026-13-45", "-5m", "0"])
def test_a_time_that_is_none_is_refused(gateway: Gateway, faas: Faas, since: str) -> None:
    done = faas("logs", "f", "--since", since)
    assert done.code == 2
    assert "--since" in done.err


def test_scale(gateway: Gateway, faas: Faas) -> None:
    deployed(gateway, "f")
    assert faas("scale", "f", "3").out == "Scaled f to 3 replicas.\n"
    assert gateway.asked[-1].json() == {"serviceName": "f", "replicas": 3}
    done = faas("scale", "f", "-1")
    assert done.code == 2
    assert "replicas are 0 to 10000, not -1" in done.err
    assert faas("scale", "f", "many").code == 2


def test_remove_by_name_and_by_stack_file(gateway: Gateway, faas: Faas, project: Path) -> None:
    for name in ("a", "b", "c-1"):
        deployed(gateway, name)
    assert faas("remove", "a").out == "Removed a.\n"
    (project / "stack.yaml").write_text("provider: {name: openfaas}\nfunctions:\n  b: {image: b}\n  c-1: {image: c}\n")
    assert faas("rm", "-f", "stack.yaml", "--filter", "c*").out == "Removed c-1.\n"
    done = faas("remove", "ghost", "b")
    assert (done.code, done.out) == (1, "Removed b.\n")
    assert done.err == "Error: there is no function ghost in namespace openfaas-fn\n"


def test_remove_without_saying_which_removes_nothing(gateway: Gateway, faas: Faas, project: Path) -> None:
    (project / "stack.yaml").write_text("provider: {name: openfaas}\nfunctions:\n  b: {image: b}\n")
    assert faas("remove").code == 2
    assert gateway.asked == []


def test_secrets(gateway: Gateway, faas: Faas, project: Path) -> None:
    assert faas("secret", "create", "a", "--from-literal", " x\n").out == "Created secret a.\n"
    assert gateway.secrets["a"] == {"name": "a", "value": "x"}
    assert faas("secret", "create", "b", "--no-trim", stdin="x\n").code == 0
    assert gateway.secrets["b"]["value"] == "x\n"
    (project / "key.bin").write_bytes(b"\xff\n")
    assert faas("secret", "create", "c", "--from-file", "key.bin", "-n", "dev").code == 0
    assert gateway.secrets["c"] == {"name": "c", "namespace": "dev", "rawValue": "/wo="}
    done = faas("secret", "create", "a", "--from-literal", "y")
    assert done.code == 1
    assert "faas secret update a" in done.err
    assert faas("secret", "create", "a", "--from-literal", "y", "--replace").out == "Updated secret a.\n"
    assert faas("secret", "update", "a", "--from-literal", "z").code == 0
    assert gateway.secrets["a"]["value"] == "z"
    assert faas("secret", "update", "ghost", "--from-literal", "z").code == 1
    assert [line.split()[0] for line in faas("secret", "list").out.splitlines()] == ["NAME", "a", "b", "c"]
    assert [row["name"] for row in json.loads(faas("secret", "list", "--json").out)] == ["a", "b", "c"]
    assert faas("secret", "remove", "a").out == "Removed secret a.\n"
    assert faas("secret", "remove", "a").code == 1
    assert faas("secret", "create", "Bad_", "--from-literal", "x").code == 2
    assert faas("secret", "create", "d", "--from-file", "none").err == "Error: --from-file none: No such file or directory\n"


def test_an_empty_secret_is_meant_or_refused(gateway: Gateway, faas: Faas) -> None:
    done = faas("secret", "create", "k")
    assert (done.code, gateway.secrets) == (2, {})
    assert "--allow-empty" in done.err
    assert faas("secret", "create", "k", "--allow-empty").code == 0


def test_a_backup_replaces_no_file_unasked(faas: Faas, project: Path) -> None:
    (project / "b.tar").write_text("mine")
    done = faas("backup", "b.tar", "--data-dir", "none")
    assert (done.code, done.err) == (2, "Error: b.tar exists already; --force replaces it\n")
    assert "is no data folder" in faas("backup", "b.tar", "--data-dir", "none", "--force").err


def test_namespaces(gateway: Gateway, faas: Faas) -> None:
    assert faas("namespace", "create", "dev", "--label", "team=red").code == 0
    assert gateway.namespaces["dev"] == {
        "name": "dev",
        "labels": {"openfaas": "1", "team": "red"},
        "annotations": {"openfaas": "1"},
    }
    assert gateway.asked[-1].path == "/system/namespace/"
    assert faas("namespace", "create", "dev").code == 1
    assert faas("namespace", "list").out == "dev\nopenfaas-fn\n"
    assert json.loads(faas("namespace", "list", "--json").out) == ["dev", "openfaas-fn"]
    assert "team=red" in faas("namespace", "get", "dev").out
    assert faas("namespace", "update", "dev", "--annotation", "a=b").code == 0
    assert gateway.namespaces["dev"]["annotations"] == {"openfaas": "1", "a": "b"}
    assert faas("namespace", "remove", "dev").out == "Removed namespace dev.\n"
    for command in ("get", "update", "remove"):
        assert faas("namespace", command, "dev").err == "Error: there is no namespace dev\n"


def test_login_checks_then_keeps_then_logout_forgets(gateway: Gateway, faas: Faas, tmp_path: Path) -> None:
    gateway.login = ("admin", "pa:ss")
    config = tmp_path / "config" / "config.yml"
    done = faas("list")
    assert done.code == 4
    assert f"faas login -g {gateway.url}" in done.err
    wrong = faas("login", "--password-stdin", stdin="wrong")
    assert (wrong.code, config.exists()) == (4, False)
    assert faas("login", "--password-stdin", "-u", "admin", stdin="pa:ss\n").code == 0
    assert yaml.safe_load(config.read_text())["auths"][0]["gateway"] == gateway.url
    assert faas("list").code == 0
    assert faas("list", "-g", gateway.url.replace("127.0.0.1", "localhost")).code == 0
    assert faas("logout").out == f"Logged out of {gateway.url}.\n"
    assert faas("list").code == 4
    assert faas("logout").code == 4


def test_login_without_a_password_says_how(gateway: Gateway, faas: Faas) -> None:
    assert "--password-stdin" in faas("login").err
    assert faas("login", "--password-stdin", stdin="\n").err == "Error: the password is empty\n"


def test_ready_waits_for_a_replica(gateway: Gateway, faas: Faas) -> None:
    assert faas("ready").out == f"{gateway.url} is ready.\n"
    deployed(gateway, "f", availableReplicas=0)
    done = faas("ready", "f", "--timeout", "100ms")
    assert (done.code, done.err) == (1, "Error: f is not ready\n")
    timer = threading.Timer(0.1, deployed, (gateway, "f"))
    timer.start()
    assert faas("ready", "f", "--timeout", "10s").out == "f is ready.\n"
    timer.join()


def test_version_of_client_and_gateway(gateway: Gateway, faas: Faas) -> None:
    assert "Version:        1.2" in faas("version").out
    shown = json.loads(faas("version", "--json").out)
    assert shown["gateway"]["provider"]["provider"] == "pinnace"
    assert shown["client"]["version"]
    done = faas("version", "-g", "http://127.0.0.1:1")
    assert (done.code, done.err) == (0, "")
    assert "no gateway answers" in done.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(faas: Faas, shell: str) -> None:
    assert "_FAAS_COMPLETE" in faas("completion", shell).out


def test_the_stack_file_of_the_folder_names_the_gateway(gateway: Gateway, faas: Faas, project: Path) -> None:
    (project / "stack.yaml").write_text("provider: {name: openfaas, gateway: 'http://127.0.0.1:1'}\nfunctions: {}\n")
    done = faas("list")
    assert done.code == 3
    assert "http://127.0.0.1:1:" in done.err
    assert faas("list", "-g", gateway.url).code == 0
