"""The templates as they ship: each is what the builder reads, and its skeleton answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pinnace_runtime.templates import is_async

from tests.runtime_templates.replica import ENTRY, StartReplica

TEMPLATES = Path(__file__).parents[2] / "runtime-templates"
PYTHON = ["python3", "python3-asgi", "python3-http"]

# What a handler pays for before its own imports: asyncio alone takes 30 ms, each of the others 2 to 7.
NOT_AT_START = ("asyncio", "json", "logging", "re", "signal", "socket", "threading", "traceback", "typing", "urllib.parse")


@pytest.mark.parametrize("name", PYTHON)
def test_a_template_says_what_the_builder_needs(name: str) -> None:
    said = yaml.safe_load((TEMPLATES / name / "template.yml").read_text())
    assert said["language"] == name
    assert said["command"] == ["{python}", "-I", "{runtime}/pinnace_runtime/__main__.py", name]
    assert said["welcome_message"] and said["description"]
    assert (TEMPLATES / name / "function" / "requirements.txt").is_file()


@pytest.mark.parametrize(
    ("name", "answer"), [("python3", b"hi"), ("python3-asgi", b"Hello from Pinnace!"), ("python3-http", b"Hello from Pinnace!")]
)
def test_the_skeleton_answers(start_replica: StartReplica, name: str, answer: bytes) -> None:
    replica = start_replica((TEMPLATES / name / "function" / "handler.py").read_text(), name)
    assert replica.call("/", b"hi").body == answer


def test_the_classic_handler_gets_text_and_returns_text(start_replica: StartReplica) -> None:
    replica = start_replica("def handle(req):\n    return req.upper() if req else None", "python3", content_type="")
    answer = replica.call("/", "hé".encode())
    assert (answer.status, answer.body.decode()) == (200, "HÉ")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert replica.call("/").body == b""


def test_the_classic_content_type_is_a_setting(start_replica: StartReplica) -> None:
    replica = start_replica("def handle(req): return req", "python3", content_type="application/json")
    assert replica.call("/", b"{}").headers["content-type"] == "application/json"


def test_starting_imports_only_what_every_function_needs(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.append({str(ENTRY.parent.parent)!r})
import pinnace_runtime.process, pinnace_runtime.thread_server
print(*[name for name in {NOT_AT_START!r} if name in sys.modules])
"""
    # -S: what a site's .pth files import is not the runtime's doing.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split() == []


def test_async_handlers_are_told_apart() -> None:
    import functools

    async def coroutine() -> None: ...

    async def generator() -> object:
        yield 1

    def plain() -> None: ...

    class Callable:
        async def __call__(self) -> None: ...

    @functools.wraps(coroutine)
    def wrapped() -> None: ...

    assert all(map(is_async, (coroutine, generator, Callable(), functools.partial(coroutine), wrapped)))
    assert not any(map(is_async, (plain, functools.partial(plain), print)))


def test_what_anyio_would_import_at_the_first_call_is_imported_with_the_handler(start_replica: StartReplica) -> None:
    pytest.importorskip("anyio")
    handler = """
import sys
import anyio
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str("anyio._backends._asyncio" in sys.modules).encode()})
"""
    assert start_replica(handler, "python3-asgi").call("/").body == b"True"
