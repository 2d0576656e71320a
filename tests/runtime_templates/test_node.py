"""The Node.js runtime keeps the same contract as the Python one."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.runtime_templates.replica import Replica, StartReplica, read_all

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not on this machine")

ECHO = """
module.exports = async (event, context) => context.status(201).headers({ 'X-Made': 'here' }).succeed(
  { body: event.body, method: event.method, path: event.path, query: event.query, type: event.headers['content-type'] })
"""
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
# Waits until the file `go` is there.
WAITS = """
const fs = require('node:fs')
module.exports = async (event, context) => {
  console.log('waiting')
  while (!fs.existsSync('go')) await new Promise(resolve => setTimeout(resolve, 5))
  return 'finished'
}
"""


@pytest.fixture
def run(start_replica: StartReplica) -> StartReplica:
    def start(handler: str, template: str = "node", *, tcp: bool = False, **environment: str) -> Replica:
        return start_replica(handler, template, tcp=tcp, **environment)

    return start


def returning(expression: str) -> str:
    return f"module.exports = async (event, context) => {expression}"


def test_a_call_reaches_the_handler_as_openfaas_would_give_it(run: StartReplica) -> None:
    replica = run(ECHO)
    assert replica.notified == {"ready": True}
    answer = replica.call("/a/b?x=1&y=2&y=3", b'{"a": 1}', method="PATCH", content_type="application/json")
    assert (answer.status, answer.headers["x-made"], answer.headers["content-type"]) == (201, "here", "application/json")
    assert json.loads(answer.body) == {
        "body": {"a": 1},
        "method": "PATCH",
        "path": "/a/b",
        "query": {"x": "1", "y": ["2", "3"]},
        "type": "application/json",
    }


def test_it_serves_on_tcp(run: StartReplica) -> None:
    assert run(returning("'x'"), tcp=True).call("/").body == b"x"


BODIES = [
    ("text/plain", b"hi", "string:hi"),
    ("", b"hi", "string:hi"),
    ("application/json", b"[1]", "object:[1]"),
    ("application/json", b"", "object:{}"),
    ("application/x-www-form-urlencoded", b"a=1&b=2", 'object:{"a":"1","b":"2"}'),
    ("application/octet-stream", b"\xff\x00", "bytes:/wA="),
]
KIND = returning(
    "Buffer.isBuffer(event.body) ? 'bytes:' + event.body.toString('base64') :"
    " typeof event.body + ':' + (typeof event.body === 'string' ? event.body : JSON.stringify(event.body))"
)


@pytest.mark.parametrize(("content_type", "body", "seen"), BODIES)
def test_the_body_is_what_its_type_says(run: StartReplica, content_type: str, body: bytes, seen: str) -> None:
    replica = run(KIND)
    answer = replica.call("/", body, content_type=content_type) if content_type else replica.call("/", body)
    assert answer.body.decode() == seen


def test_raw_bodies_and_broken_ones(run: StartReplica) -> None:
    assert run(KIND, RAW_BODY="true").call("/", b"{}", content_type="application/json").body == b"bytes:e30="
    assert run(KIND).call("/", b"{", content_type="application/json").status == 400
    assert run(KIND, MAX_JSON_SIZE="1kb").call("/", b"x" * 2000).status == 413


REPLIES = [
    ("'text'", 200, "text/html; charset=utf-8", b"text"),
    ("Buffer.from('bytes')", 200, "application/octet-stream", b"bytes"),
    ("[1, 2]", 200, "application/json", b"[1,2]"),
    ("undefined", 200, "", b""),
    ("context.status(404).succeed('none')", 404, "text/html; charset=utf-8", b"none"),
    ("context.headers({'content-type': 'text/csv'}).succeed('a,b')", 200, "text/csv", b"a,b"),
    ("context.fail('no such thing')", 500, "text/plain; charset=utf-8", b"no such thing"),
    ("context.status(422).fail(new Error('odd'))", 422, "text/plain; charset=utf-8", b"odd"),
    ("require('stream').Readable.from(['a', 'b'])", 200, "application/octet-stream", b"ab"),
    ("(async function * () { yield 'x'; yield 'y' })()", 200, "application/octet-stream", b"xy"),
]


@pytest.mark.parametrize(("expression", "status", "content_type", "body"), REPLIES)
def test_what_may_be_answered(run: StartReplica, expression: str, status: int, content_type: str, body: bytes) -> None:
    answer = run(returning(expression)).call("/")
    assert (answer.status, answer.headers.get("content-type", ""), answer.body) == (status, content_type, body)


FAILURES = [
    "{ throw new Error('secret') }",
    "(() => { throw 'secret' })()",
    "context.status('x').succeed('y')",
    "context.headers({'X-A': 'a\\r\\nb: c'}).succeed('y')",
    "Symbol('secret')",
]


@pytest.mark.parametrize("expression", FAILURES)
def test_a_failure_says_nothing_outside_and_all_in_the_log(run: StartReplica, expression: str) -> None:
    replica = run(returning(expression))
    answer = replica.call("/", X_Call_Id="c-1")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert any(line.startswith("c-1|") for line in replica.log)
    assert replica.call("/_/ready").status == 200


@pytest.mark.parametrize(
    "handler",
    [
        "module.exports = (event, context, callback) => { setTimeout(() => callback(null, 'called'), 5) }",
        "module.exports = (event, context, callback) => { setTimeout(() => context.succeed('called'), 5) }",
        "module.exports = (event, context) => context.succeed('called')",
        "exports.handler = () => 'called'",
    ],
)
def test_older_ways_to_write_a_handler(run: StartReplica, handler: str) -> None:
    assert run(handler).call("/").body == b"called"


def test_modules_and_the_packages_they_import(run: StartReplica, tmp_path: Path) -> None:
    package = tmp_path / "layer" / "node_modules" / "shout"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "shout", "version": "1.0.0", "main": "index.js"}')
    (package / "index.js").write_text("module.exports = text => text.toUpperCase()")
    modules = str(package.parent)
    esm = "import shout from 'shout'\nexport default async event => shout(event.body)"
    assert run(esm, "node-module", NODE_PATH=modules).call("/", b"hi").body == b"HI"
    common = "const shout = require('shout')\nmodule.exports = async event => shout(event.body)"
    assert run(common, NODE_PATH=modules).call("/", b"hi").body == b"HI"


BROKEN = [
    ("const x = 1\nmodule.exports = (", "handler.js line 2: SyntaxError: "),
    ("const x = 1\nx.y.z", "handler.js line 2: TypeError: Cannot read properties of undefined"),
    ("\nrequire('no-such-package')", "handler.js line 2: Error: Cannot find module 'no-such-package'"),
    ("module.exports = 5", "handler.js exports no function: module.exports = async (event, context)"),
    ("throw null", "it threw null"),
]


@pytest.mark.parametrize(("handler", "message"), BROKEN)
def test_a_broken_handler_is_explained_in_one_line(run: StartReplica, handler: str, message: str) -> None:
    replica = run(handler)
    assert message in replica.notified["failed"]
    assert "\n" not in replica.notified["failed"]
    assert replica.wait() == 1


def test_a_broken_module_is_explained_too(run: StartReplica) -> None:
    replica = run("import x from 'nope'\nexport default () => x", "node-module", NODE_PATH="/nowhere/node_modules")
    assert "Cannot find package 'nope' imported from " in replica.notified["failed"]
    assert "handler.mjs" in replica.notified["failed"]


def test_a_setting_that_cannot_be_is_named(run: StartReplica) -> None:
    replica = run(ECHO, exec_timeout="soon")
    assert replica.wait() == 1
    assert replica.log == ["exec_timeout='soon': a duration such as 60s, 1m30s or 500ms"]


def test_lines_carry_their_call_even_after_an_await(run: StartReplica) -> None:
    replica = run(
        "module.exports = async event => { console.log('begin', event.path); await new Promise(r => setTimeout(r, 5));"
        " console.error('end', event.path); process.stdout.write('rest') }"
    )
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    replica.call("/0", X_Call_Id="c-0", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    replica.wait_for_log(f"c-0 {trace}|rest")
    assert replica.log == [f"c-0 {trace}|{text}" for text in ("begin /0", "end /0", "rest")]
    for n in (1, 2):
        replica.call(f"/{n}", X_Call_Id=f"c-{n}", traceparent=f"00-{trace}-00f067aa0ba902b7-00")
    replica.wait_for_log("c-2|rest")
    assert replica.log[3:] == ["c-1|begin /1", "c-1|end /1", "c-1|rest", "c-2|begin /2", "c-2|end /2", "c-2|rest"]


def test_more_than_max_inflight_is_refused_unread(run: StartReplica) -> None:
    replica = run(WAITS, max_inflight="1")
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(replica.call("/", X_Call_Id="a").status))
    first.start()
    replica.wait_for_log("a|waiting")
    client = replica.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    refused = client.recv(1000).lower()
    assert refused.startswith(b"http/1.1 429 ") and b"x-openfaas-internal: runtime" in refused
    assert replica.call("/_/health").status == 200
    (replica.folder / "go").touch()
    first.join(10)
    assert answers == [200]
    assert replica.call("/").status == 200


@pytest.mark.parametrize(("limit", "wanted"), [("200ms", ""), ("200ms", "1h"), ("60s", "200ms"), ("200ms", "nonsense")])
def test_a_call_that_takes_too_long_is_answered(run: StartReplica, limit: str, wanted: str) -> None:
    replica = run(WAITS, exec_timeout=limit)
    answer = replica.call("/", X_Timeout=wanted, X_Call_Id="c-1")
    assert (answer.status, answer.headers["x-openfaas-internal"]) == (504, "runtime")
    whose = "its caller's X-Timeout" if limit == "60s" else "the function's timeout"
    assert answer.body == f"The call took longer than {whose}, 0.2 s\n".encode()
    assert replica.log[1:] == [f"c-1|[pinnace] the call took longer than {whose}, 0.2 s (call c-1)"]


def test_a_stream_that_fails_is_cut(run: StartReplica) -> None:
    replica = run(
        returning(
            "(async function * () {"
            " yield 'x'.repeat(1000); await new Promise(r => setTimeout(r, 50)); throw new Error('broken') })()"
        )
    )
    answer = replica.send(GET)
    assert answer.startswith(b"HTTP/1.1 200 ") and not answer.endswith(b"0\r\n\r\n")
    assert any("broken" in line for line in replica.log)
    assert run(returning("(async function * () { throw new Error('broken') })()")).call("/").status == 500


def test_a_stack_is_shown_without_the_runtimes_frames(run: StartReplica) -> None:
    fails = "module.exports = async () => { throw new Error('broken') }"
    replicas = [run(fails), run(fails, PINNACE_DEBUG="1")]
    for replica in replicas:
        replica.call("/")
    shown, whole = ("\n".join(replica.log) for replica in replicas)
    assert "handler.js:1" in shown and "pinnace_runtime" not in shown and "pinnace_runtime" in whole


def test_an_idle_replica_ends_at_once(run: StartReplica) -> None:
    replica = run(ECHO)
    client = replica.connect()
    client.sendall(GET)
    assert client.recv(1000).startswith(b"HTTP/1.1 201 ")
    replica.terminate()
    assert replica.wait() == 0


def test_a_call_in_flight_finishes(run: StartReplica) -> None:
    replica = run(WAITS)
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-Call-Id: a\r\n\r\n")
    replica.wait_for_log("a|waiting")
    idle = replica.connect()
    idle.sendall(b"GET /_/ready HTTP/1.1\r\nHost: h\r\n\r\n")
    assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
    replica.terminate()
    assert read_all(idle) == b""  # it is draining now
    (replica.folder / "go").touch()
    answer = read_all(client).lower()
    assert answer.endswith(b"finished") and b"connection: close\r\n" in answer
    assert replica.wait() == 0


def test_calls_sent_before_the_drain_are_served(run: StartReplica) -> None:
    """Stopped while they arrive, the process finds the signal, the backlog and the calls all at once."""
    replica = run(returning("'quick'"))
    idle = replica.connect()
    idle.sendall(GET)
    assert b"quick" in idle.recv(1000)
    replica.process.send_signal(19)
    idle.sendall(GET)
    fresh = [replica.connect() for _ in range(5)]
    for client in fresh:
        client.sendall(GET)
    replica.terminate()
    replica.process.send_signal(18)
    for client in (idle, *fresh):
        assert read_all(client).endswith(b"quick")
    assert replica.wait() == 0


def test_an_exception_that_nobody_caught_ends_the_process_after_the_others(run: StartReplica) -> None:
    replica = run(
        WAITS.replace(
            "console.log('waiting')",
            "if (event.path === '/bad') { setTimeout(() => { throw new Error('late') }, 1); await new Promise(() => {}) }"
            " console.log('waiting')",
        )
    )
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-Call-Id: a\r\n\r\n")
    replica.wait_for_log("a|waiting")
    assert replica.call("/bad", X_Call_Id="b").status == 500
    (replica.folder / "go").touch()
    assert read_all(client).endswith(b"finished")
    assert replica.wait() == 1
    assert any(line.startswith("b|Error: late") for line in replica.log)


def test_descriptors_of_the_platform_are_not_for_children(run: StartReplica) -> None:
    listed = run(returning("require('child_process').execSync('ls /proc/self/fd').toString().split('\\n')")).call("/").body
    assert json.loads(listed) == ["0", "1", "2", "3", ""]  # 3 is the folder that ls reads
