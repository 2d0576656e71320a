"""How a function is developed: tests before a deploy, a deploy at each save, a run without a gateway."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.platform import FAAS, Platform, until

GOOD = "def handle(event, context):\n    return {!r}\n"


@contextmanager
def started(platform: Platform, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`faas` in the background, with the file of what it says; killed at the end if it has not ended."""
    output = platform.home / f"{'-'.join(arguments[:2])}.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [FAAS, *arguments],
            cwd=platform.home,
            env={**platform.environment, "OPENFAAS_URL": platform.url, "XDG_CACHE_HOME": str(platform.home / "cache")},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_failing_test_leaves_the_old_code_serving(platform: Platform) -> None:
    platform.deploy("tested", GOOD.format("old"))
    folder = platform.home / "tested"
    (folder / "test_handler.py").write_text(
        "from handler import handle\ndef test_it():\n    assert handle(None, None) == 'old'\n"
    )
    (folder / "handler.py").write_text(GOOD.format("new"))
    done = platform.faas("deploy", folder, "--lang", "python3-http", check=False)
    assert done.returncode == 1
    assert "tested: its tests failed; nothing was deployed" in done.stderr
    assert platform.call("tested").text == "old"
    platform.faas("deploy", folder, "--lang", "python3-http", "--skip-tests")
    assert platform.call("tested").text == "new"


def test_watching_deploys_at_each_save_and_outlives_errors(platform: Platform) -> None:
    handler = platform.home / "watched" / "handler.py"
    handler.parent.mkdir()
    handler.write_text(GOOD.format("one"))
    with started(platform, "up", "watched", "--watch") as (process, output):
        until(lambda: "Watching 1 function for changes" in output.read_text())
        assert platform.call("watched").text == "one"
        handler.write_text(GOOD.format("two"))
        until(lambda: platform.call("watched").text == "two")
        handler.write_text("def handle(:\n")
        until(lambda: "SyntaxError" in output.read_text())
        assert platform.call("watched").text == "two"
        handler.write_text(GOOD.format("three"))
        until(lambda: platform.call("watched").text == "three")
        until(lambda: output.read_text().count("Watching 1 function") == 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert "Changed: watched/handler.py" in output.read_text()
    assert "Traceback" not in output.read_text()


def test_up_can_only_build(platform: Platform) -> None:
    folder = platform.home / "only-built"
    folder.mkdir()
    (folder / "handler.py").write_text(GOOD.format("x"))
    assert "Built only-built in " in platform.faas("up", "only-built", "--skip-deploy").stdout
    assert platform.call("only-built").status == 404
    platform.faas("deploy", "--image", "only-built", "--name", "only-built")
    assert platform.call("only-built").text == "x"


def get(url: str, path: str = "") -> str:
    try:
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        return str(error)


IN_PYTHON = """
import json, os, pathlib

def handle(event, context):
    return json.dumps([os.environ["WORD"], pathlib.Path(os.environ["secret_mount_path"], "key").read_text()])
"""
IN_NODE = """
const fs = require('fs')
module.exports = async () => [process.env.WORD, fs.readFileSync(process.env.secret_mount_path + '/key', 'utf8')]
"""
SAYS = {
    "python3-http": ("handler.py", IN_PYTHON),
    "bash": ("handler.sh", 'printf \'["%s", "%s"]\' "$WORD" "$(cat $secret_mount_path/key)"\n'),
    "node": ("handler.js", IN_NODE),
}


@pytest.mark.parametrize("language", SAYS)
def test_a_local_run_needs_no_gateway(platform: Platform, language: str) -> None:
    if language == "node" and shutil.which("node") is None:
        pytest.skip("Node.js is not on this machine")
    file, text = SAYS[language]
    name = f"local-{language}"
    (platform.home / name).mkdir()
    (platform.home / name / file).write_text(text)
    (platform.home / ".secrets").mkdir(exist_ok=True)
    (platform.home / ".secrets" / "key").write_text("s3cret")
    stack = f"{name}.yaml"
    (platform.home / stack).write_text(
        f"provider: {{name: openfaas}}\nfunctions:\n  {name}:\n    lang: {language}\n    handler: ./{name}\n"
        "    image: x\n    environment: {WORD: stack}\n    secrets: [key]\n"
    )
    with started(platform, "local-run", name, "-f", stack, "--port", "0", "-e", "WORD=flag") as (process, output):
        until(lambda: "answers at" in output.read_text() or process.poll() is not None)
        url = output.read_text().partition("answers at ")[2].split()[0]
        assert json.loads(get(url)) == ["flag", "s3cret"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert "Connection refused" in get(url)
    assert platform.call(name).status == 404


def test_a_local_run_that_watches_starts_again_and_outlives_errors(platform: Platform) -> None:
    handler = platform.home / "local-watched" / "handler.py"
    handler.parent.mkdir()
    handler.write_text(GOOD.format("one"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with started(platform, "local-run", "local-watched", "--port", str(port), "--watch") as (process, output):
        until(lambda: get(url) == "one")
        handler.write_text(GOOD.format("two"))
        until(lambda: get(url) == "two")
        handler.write_text("import nothing_like_this\n")
        until(lambda: "No module named 'nothing_like_this'" in output.read_text())
        handler.write_text("import os\ndef handle(event, context):\n    os._exit(3)\n")
        until(lambda: output.read_text().count("answers at") == 3)
        get(url)
        until(lambda: "Error: local-watched: it ended with code 3" in output.read_text())
        handler.write_text(GOOD.format("three"))
        until(lambda: get(url) == "three")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_local_run_of_a_program_that_serves_itself(platform: Platform) -> None:
    platform.faas("new", "local-binary", "--lang", "binary", "-f", "local-binary.yaml")
    with started(platform, "local-run", "-f", "local-binary.yaml", "--port", "0") as (process, output):
        until(lambda: "answers at" in output.read_text() or process.poll() is not None)
        assert get(output.read_text().partition("answers at ")[2].split()[0]) == "Hello from Pinnace!\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_what_keeps_a_local_run_from_starting_is_said(platform: Platform) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        done = platform.faas("local-run", *arguments, check=False)
        return done.returncode, done.stderr.splitlines()[-1]

    platform.environment["XDG_CACHE_HOME"] = str(platform.home / "cache")
    folder = platform.home / "local-broken"
    folder.mkdir()
    (folder / "handler.py").write_text("import nothing_like_this\n")
    code, line = said("local-broken", "--port", "0")
    assert (code, line.startswith("Error: local-broken: handler.py line 1: ModuleNotFoundError")) == (1, True), line
    (folder / "handler.py").write_text(GOOD.format("x"))
    (platform.home / "needs.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n"
        "  needs: {lang: python3-http, handler: ./local-broken, image: x, secrets: [gone]}\n"
    )
    expected = "Error: needs: there is no .secrets/gone, which holds the secret gone for a local run"
    assert said("needs", "-f", "needs.yaml", "--port", "0") == (2, expected)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        expected = f"Error: port {port}: Address already in use; --port 0 takes a free one"
        assert said("local-broken", "--port", str(port)) == (2, expected)
