"""The command as a process: its exit codes, its start, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from cli.main import ALIASES, COMMANDS, SECTIONS, faas
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

START = "import sys; from cli.main import main; main()"
ROOT = Path(__file__).parent.parent.parent
HELP_BUDGET_S = 0.150


def command(*arguments: str, code: str = START) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("serve", "backup", "restore")])
def test_every_command_has_its_line_of_help(name: str) -> None:
    loaded = faas.get_command(click.Context(faas), name)
    assert loaded is not None
    assert (loaded.name, loaded.short_help) == (name, COMMANDS[name].help)


def test_help_lists_every_command_in_its_section(faas: Faas) -> None:
    done = faas("--help")
    assert done.code == 0
    for title, entries in SECTIONS.items():
        assert f"{title}:" in done.out
        assert all(name in done.out and entry.help in done.out for name, entry in entries.items())
    assert set(ALIASES.values()) <= set(COMMANDS)


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = "import sys\ntry:\n    from cli.main import main; main()\nfinally:\n    print(*sys.modules)"
    done = subprocess.run(command("--help", code=code), capture_output=True, text=True, env=environment(), timeout=30)
    modules = done.stdout.splitlines()[-1].split()
    assert "cli.main" in modules
    heavy = ("cli.commands.", "yaml", "http.client", "ssl", "asyncio", "msgspec", "starlette", "uvicorn", "uvloop", "httptools")
    assert [m for m in modules if m.startswith(heavy)] == []


def test_help_answers_within_its_budget() -> None:
    def measured() -> float:
        """Seconds of CPU, which a busy machine does not stretch as it does the time that passes."""
        before = os.times()
        subprocess.run(command("--help"), capture_output=True, check=True, env=environment(), timeout=30)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(measured() for _ in range(5)) < HELP_BUDGET_S


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list"], 0, ""),
        (["describe", "ghost"], 1, "Error: there is no function ghost"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["lst"], 2, "Did you mean 'list'?"),
        (["list", "--nonsense"], 2, "No such option"),
        (["deploy", "-f", "none.yaml"], 2, "none.yaml: No such file"),
        (["list", "-g", "http://127.0.0.1:1"], 3, "no gateway answers at http://127.0.0.1:1"),
        (["list", "-g", "ftp://x"], 2, "is not a URL such as"),
    ],
)
def test_exit_codes(gateway: Gateway, faas: Faas, arguments: list[str], code: int, words: str) -> None:
    done = faas(*arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_bug_is_one_line_unless_it_is_wanted(gateway: Gateway, faas: Faas, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.canned["GET /system/functions"] = (200, {}, b'[{"no": "name"}]')
    done = faas("list")
    assert (done.code, done.err) == (1, "Error: KeyError: 'name' (a bug of faas; FAAS_DEBUG=1 shows where)\n")
    monkeypatch.setenv("FAAS_DEBUG", "1")
    with pytest.raises(KeyError):
        faas("list")


def test_a_file_that_cannot_be_written_is_named(faas: Faas, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "folder.yaml").mkdir()
    done = faas("new", "x", "--lang", "python3-http", "-f", "folder.yaml")
    assert (done.code, done.err) == (1, "Error: folder.yaml: Is a directory\n")


def test_ctrl_c_ends_quietly_with_130(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            command("list", "-g", f"http://127.0.0.1:{silent.getsockname()[1]}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_ctrl_c_ends_a_deploy_too(project: Path) -> None:
    (project / "f").mkdir()
    (project / "f" / "handler.py").write_text("def handle(event, context): ...\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            command("deploy", "f", "-g", f"http://127.0.0.1:{silent.getsockname()[1]}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_reader_that_leaves_is_no_error(gateway: Gateway) -> None:
    gateway.log_lines = [{"text": "x" * 1000, "timestamp": "2026-01-31T12:00:00Z"}] * 2000
    process = subprocess.Popen(
        command("logs", "f", "-g", gateway.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    process.wait(30)


def test_a_followed_log_arrives_line_by_line(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        more = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"text": "first"}\n')
                assert more.wait(30)
                connection.sendall(b'{"text": "second"}\n')

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen(
            command("logs", "f", "-f", "--no-time", "-g", url), stdout=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "first\n"
            more.set()
            assert process.stdout.read() == "second\n"
        thread.join()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"), [("faas de", ["deploy", "describe"]), ("faas secret u", ["update"]), ("faas describe w", ["web"])]
)
def test_completion_of_commands_and_functions(gateway: Gateway, words: str, expected: list[str]) -> None:
    gateway.functions[("openfaas-fn", "web")] = {"name": "web"}
    asked = {"_FAAS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(command(), capture_output=True, text=True, env={**environment(), **asked}, timeout=30)
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == expected


def test_version_is_a_flag_too(faas: Faas) -> None:
    done = faas("--version")
    assert done.code == 0
    assert done.out.startswith("faas ")


def test_ctrl_c_during_the_imports_is_quiet() -> None:
    code = f"""
import sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
{START}"""
    done = subprocess.run(command(code=code), capture_output=True, text=True, env=environment(), timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
