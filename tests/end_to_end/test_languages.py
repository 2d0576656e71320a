"""Functions that are not Python: programs for each call, programs that serve HTTP themselves, and Node.js."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.platform import Platform, running, until

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not on this machine")

SERVER = """#!/usr/bin/env python3
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/exit":
            os._exit(7)
        body = b"%d %s %s" % (os.getuid(), " ".join(sys.argv[1:]).encode(), body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("listening on", os.environ["PORT"], flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def made(platform: Platform, name: str, file: str, text: str, mode: int = 0o644) -> Path:
    folder = platform.home / name
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    (folder / file).chmod(mode)
    return folder


@pytest.mark.parametrize(
    ("language", "answer"),
    [
        ("bash", "Hello, you\n"),
        ("binary", "Hello from Pinnace!\n"),
        pytest.param("node", "Hello from Pinnace!", marks=needs_node),
    ],
)
def test_a_new_function_of_each_language_answers(platform: Platform, language: str, answer: str) -> None:
    platform.faas("new", f"new-{language}", "--lang", language)
    platform.faas("deploy", f"new-{language}")
    assert platform.call(f"new-{language}", "you").text == answer


def test_a_script_answers_calls(platform: Platform) -> None:
    folder = made(platform, "script", "handler.sh", 'echo to the log >&2\necho "$Http_Method $Http_Path $GREETING"\ncat\n')
    platform.faas("deploy", folder, "-e", "GREETING=hi")
    answer = platform.call("script", "body", path="/a")
    assert answer.text == "POST /a hi\nbody"
    until(lambda: "to the log" in platform.faas("logs", "script").stdout)


def test_a_script_that_fails_or_hangs_is_told(platform: Platform) -> None:
    folder = made(platform, "hangs", "handler.sh", 'read what\n[ "$what" = fail ] && exit 3\nsleep 60\n')
    platform.faas("deploy", folder, "-e", "exec_timeout=300ms")
    assert platform.call("hangs", "fail\n").status == 500
    assert platform.call("hangs", "hang\n").status == 504
    until(lambda: "exit code 3" in platform.faas("logs", "hangs").stdout)


def test_memory_and_concurrency_limits_hold_for_programs(platform: Platform) -> None:
    script = 'read what\n[ "$what" = limit ] && exec printenv max_inflight\nexec python3 -c "print(len(bytearray($what)))"\n'
    folder = made(platform, "hungry", "handler.sh", script)
    platform.faas("deploy", folder, "--memory-limit", "96Mi", "--label", "com.pinnace.concurrency=1")
    assert platform.call("hungry", "1000\n").text == "1000\n"
    assert platform.call("hungry", f"{400 << 20}\n").status in (500, 502)
    until(lambda: platform.call("hungry", "10\n").text == "10\n")
    assert platform.call("hungry", "limit\n").text == "1\n"


def test_any_program_answers_through_fprocess(platform: Platform) -> None:
    folder = made(platform, "upper", "notes.txt", "nothing to run")
    platform.faas("deploy", folder, "--lang", "bash", "--fprocess", "tr a-z 'A-Z'")
    assert platform.call("upper", "shout").text == "SHOUT"
    done = platform.faas("deploy", folder, "--lang", "bash", "--fprocess", "no-such-program", check=False)
    assert done.returncode == 1
    assert "there is no program 'no-such-program'" in done.stderr
    assert platform.call("upper", "still").text == "STILL"


def test_a_program_that_serves_http_itself(platform: Platform) -> None:
    folder = made(platform, "server", "server", SERVER, 0o755)
    platform.faas("deploy", folder, "--lang", "binary", "--fprocess", "./server --mode 'a b' $PORT")
    uid, *arguments, body = platform.call("server", "hi").text.split(" ")
    assert (arguments[:3], body) == (["--mode", "a", "b"], "hi")
    assert int(uid) >= 0
    assert f"listening on {arguments[3]}" in platform.faas("logs", "server").stdout
    platform.scale("server", 2)
    until(lambda: platform.status("server").get("availableReplicas") == 2)
    platform.call("server", "", path="/exit")
    until(lambda: platform.call("server", "again").text.endswith("again"))
    platform.faas("remove", "server")
    until(lambda: platform.call("server").status == 404)


def test_a_program_that_cannot_run_is_told(platform: Platform) -> None:
    folder = made(platform, "notrun", "handler", "#!/bin/sh\nexit 1\n")
    done = platform.faas("deploy", folder, "--lang", "binary", check=False)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


@needs_node
def test_a_node_function_starts_where_the_data_is_not_below_tmp() -> None:
    home = Path(tempfile.mkdtemp(prefix="pinnace-", dir="/var/tmp"))
    home.chmod(0o755)  # everyone may pass it, as the default data folder of root
    try:
        with running(home) as platform:
            folder = made(platform, "far", "handler.js", "module.exports = async () => 'here'\n")
            platform.faas("deploy", folder, "--name", "far", "--lang", "node")
            assert platform.call("far").text == "here"
    finally:
        shutil.rmtree(home)


@needs_node
def test_a_node_function_with_its_limits(platform: Platform) -> None:
    handler = """
    module.exports = async (event, context) => {
      if (event.path === '/exit') process.exit(9)
      if (event.path === '/hang') await new Promise(() => {})
      console.log('called', event.path)
      return context.status(201).succeed({ said: event.body.say, uid: process.getuid(), secret: process.env.KEY })
    }
    """
    folder = made(platform, "noder", "handler.js", handler)
    platform.faas("deploy", folder, "-e", "exec_timeout=500ms", "-e", "KEY=k")
    answer = platform.call("noder", json.dumps({"say": "hi"}), path="/x", Content_Type="application/json")
    assert answer.status == 201
    assert {"said": "hi", "secret": "k"}.items() <= answer.json().items()
    assert platform.call("noder", path="/hang").status == 504
    assert platform.call("noder", path="/exit").status in (500, 502)
    until(lambda: platform.call("noder", "{}", Content_Type="application/json").status == 201)
    until(lambda: "called /x" in platform.faas("logs", "noder").stdout)


@needs_node
def test_a_node_function_that_takes_too_much_memory_is_ended(platform: Platform) -> None:
    handler = "module.exports = async event => String(Buffer.alloc(Number(event.body), 1).length)"
    folder = made(platform, "hungry-node", "handler.js", handler)
    platform.faas("deploy", folder, "--memory-limit", "200Mi")
    assert platform.call("hungry-node", "1000").text == "1000"
    assert platform.call("hungry-node", str(600 << 20)).status in (500, 502)
    until(lambda: platform.call("hungry-node", "10").text == "10")


@needs_node
def test_a_broken_node_handler_is_named_in_one_line(platform: Platform) -> None:
    folder = made(platform, "broken-node", "handler.js", "const x = 1\nmodule.exports = () => x +\n")
    done = platform.faas("deploy", folder, check=False)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "handler.js line" in line and "SyntaxError" in line]


def test_a_template_of_the_projects_own(platform: Platform) -> None:
    """Its files and its command go along; the gateway need not know it."""
    template = platform.home / "template" / "own"
    (template / "function").mkdir(parents=True)
    (template / "template.yml").write_text(
        'language: own\nruntime: _python\ndependencies: python\nenv: {fprocess: "python ../shim.py"}\n'
        'command: ["{python}", "-I", "{runtime}/pinnace_runtime/__main__.py", "classic"]\n'
    )
    (template / "shim.py").write_text(
        "import sys\nsys.path.insert(0, '.')\nimport handler\nprint(handler.answer(sys.stdin.read()))\n"
    )
    (template / "function" / "handler.py").write_text("def answer(text):\n    return text[::-1]\n")
    platform.faas("new", "mirror", "--lang", "own")
    platform.faas("deploy", "mirror")
    assert platform.call("mirror", "abc").text == "cba\n"
