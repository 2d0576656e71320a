"""What a function's log shows of an exception: its author's frames, whichever server ran it."""

from __future__ import annotations

import traceback

import pytest
from pinnace_runtime.tracebacks import formatted

from tests.runtime_templates.replica import StartReplica, wait_until

STREAM = """
def handle(event, context):
    def pieces():
        yield 'first'
        raise ValueError('broken')
    return pieces()
"""
ASGI = """
async def app(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 'broken'})
"""
WRAPPED = """
class Framework:
    async def __call__(self, scope, receive, send):
        raise ValueError('broken')
app = Framework()
"""
CHAIN = """
def find(key):
    return {}[key]

def handle(event, context):
    try:
        find('x')
    except KeyError as error:
        raise ValueError('broken') from error
"""

FRAMES = [
    ("python3-http", "def handle(event, context):\n    raise ValueError('broken')\n", ["line 2, in handle"]),
    ("python3-http", "async def handle(event, context):\n    raise ValueError('broken')\n", ["line 2, in handle"]),
    ("python3", "def handle(req):\n    raise ValueError('broken')\n", ["line 2, in handle"]),
    ("python3-http", STREAM, ["line 5, in pieces"]),
    ("python3-http", STREAM.replace("def handle", "async def handle"), ["line 5, in pieces"]),
    ("python3-asgi", ASGI, ["line 3, in app"]),
    ("python3-asgi", WRAPPED, ["line 4, in __call__"]),
    ("python3-http", CHAIN, ["line 7, in handle", "line 3, in find", "line 9, in handle"]),
]


@pytest.mark.parametrize(("template", "handler", "places"), FRAMES)
def test_only_the_authors_frames_are_shown(start_replica: StartReplica, template: str, handler: str, places: list[str]) -> None:
    replica = start_replica(handler, template)
    replica.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    wait_until(lambda: any("broken" in line and "Error: " in line for line in replica.log), "the traceback")
    assert [line.strip() for line in replica.log if 'File "' in line] == [f'File "handler.py", {place}' for place in places]


def test_with_the_debug_setting_all_frames_are_shown(start_replica: StartReplica) -> None:
    replica = start_replica(FRAMES[0][1], PINNACE_DEBUG="1")
    replica.call("/")
    wait_until(lambda: "ValueError: broken" in replica.log, "the traceback")
    assert any("pinnace_runtime" in line for line in replica.log)


def test_of_a_syntax_error_the_place_is_shown(start_replica: StartReplica) -> None:
    detail = start_replica("def handle(:\n").notified["detail"]
    assert '  File "handler.py", line 1\n    def handle(:\n' in detail and detail.count("File ") == 1


def test_libraries_that_the_author_called_are_shown(start_replica: StartReplica) -> None:
    replica = start_replica("import json\ndef handle(event, context):\n    json.loads('{')\n")
    replica.call("/")
    wait_until(lambda: any("JSONDecodeError" in line for line in replica.log), "the traceback")
    files = [line for line in replica.log if 'File "' in line]
    assert files[0].endswith('File "handler.py", line 3, in handle') and "decoder.py" in files[-1]


def test_every_exception_of_a_group_is_looked_at() -> None:
    def fail() -> None:
        raise ValueError("broken")

    found: list[Exception] = []
    for _ in range(2):
        try:
            fail()
        except ValueError as error:
            found.append(error)
    code = __file__.rpartition("/")[0]
    shown = formatted(ExceptionGroup("both", found), code)
    assert shown.count('File "test_tracebacks.py"') == 4 and code not in shown


def test_what_has_no_frame_of_the_author_is_shown_whole() -> None:
    try:
        raise ValueError("ours")
    except ValueError as error:
        assert formatted(error, "/nowhere") == "".join(traceback.format_exception(error))
