"""ASGI applications and Knative's functions in a running replica."""

from __future__ import annotations

import json

import pytest

from tests.runtime_templates.replica import StartReplica, read_all, wait_until

STARLETTE = """
import contextlib
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    print("up")
    yield {"name": "db"}
    print("down")

async def home(request):
    size = sum([len(piece) async for piece in request.stream()])
    return JSONResponse({"url": str(request.url), "state": request.state.name, "size": size, "client": request.client.host})

def blocking(request):
    print("blocking")
    return PlainTextResponse("sync", background=BackgroundTask(print, "after"))

async def stream(request):
    async def pieces():
        for n in range(3):
            yield str(n)
    return StreamingResponse(pieces())

routes = [Route("/", home, methods=["GET", "POST"]), Route("/sync", blocking), Route("/stream", stream)]
app = Starlette(routes=routes, lifespan=lifespan)
"""


def test_starlette(start_replica: StartReplica) -> None:
    replica = start_replica(STARLETTE, "python3-asgi")
    answer = replica.call("/?x=1", b"x" * 1_000_000, X_Forwarded_For="1.1.1.1, 2.2.2.2", X_Forwarded_Proto="https", Host="h")
    assert json.loads(answer.body) == {"url": "https://h/?x=1", "state": "db", "size": 1_000_000, "client": "2.2.2.2"}
    assert replica.call("/sync", X_Call_Id="c1").body == b"sync"
    replica.wait_for_log("c1|after")
    assert replica.send(b"GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").endswith(b"1\r\n2\r\n0\r\n\r\n")
    assert replica.call("/health/liveness").status == 404
    replica.terminate()
    assert replica.wait() == 0
    assert replica.log == ["up", "c1|blocking", "c1|after", "down"]


def application(body: str) -> str:
    return f"""
import asyncio, os
async def app(scope, receive, send):
    assert scope["type"] == "http"
{body}
"""


START = '    await send({"type": "http.response.start", "status": 200, "headers": []})\n'


@pytest.mark.parametrize(
    ("body", "logged"),
    [
        ("    pass", "the application returned before its response was complete"),
        ("    1 / 0", "ZeroDivisionError: division by zero"),
        (START + "    1 / 0", "ZeroDivisionError: division by zero"),
        (START.replace("200", "'ok'"), "RuntimeError: an ASGI application sent the status 'ok'"),
        (START.replace("[]", '[(b"a", b"b\\r\\nc: d")]'), "RuntimeError: an ASGI application sent the header b'a'"),
        (
            '    await send({"type": "http.response.body"})',
            "RuntimeError: an ASGI application cannot send 'http.response.body' now",
        ),
        (START + START, "RuntimeError: an ASGI application cannot send 'http.response.start' now"),
    ],
)
def test_an_application_that_fails_is_answered_for(start_replica: StartReplica, body: str, logged: str) -> None:
    replica = start_replica(application(body), "python3-asgi", max_inflight="1")
    answer = replica.call("/", X_Call_Id="c")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    wait_until(lambda: any(line.startswith(f"c|{logged}") for line in replica.log), logged)
    assert replica.call("/").status == 500


def test_a_response_that_stops_is_cut(start_replica: StartReplica) -> None:
    body = START + '    await send({"type": "http.response.body", "body": b"x", "more_body": True})\n'
    replica = start_replica(application(body), "python3-asgi")
    assert replica.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").endswith(b"\r\n\r\n1\r\nx\r\n")


def test_a_client_that_leaves_is_told_to_the_application(start_replica: StartReplica) -> None:
    body = '    while (await receive())["type"] != "http.disconnect": pass\n    print("left")'
    replica = start_replica(application(body), "python3-asgi")
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-Call-Id: c\r\n\r\n")
    client.close()
    replica.wait_for_log("c|left")
    assert replica.log == ["c|left"]


def test_a_body_nobody_reads_does_not_reach_the_next_call(start_replica: StartReplica) -> None:
    replica = start_replica(
        application(START + '    await send({"type": "http.response.body", "body": b"early"})'), "python3-asgi"
    )
    client = replica.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\nhalf")
    assert b"early" in client.recv(1000)
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"HTTP/1.1" not in read_all(client)


def test_a_slow_application_holds_back_a_fast_client(start_replica: StartReplica) -> None:
    body = """
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})
"""
    replica = start_replica(application(body), "python3-asgi")
    client = replica.connect()
    size = 8_000_000
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
    client.settimeout(0.3)
    sent = 0
    try:
        while sent < size:
            sent += client.send(b"x" * min(65536, size - sent))
    except TimeoutError:
        assert sent < size / 2
    else:
        raise AssertionError("the replica took the whole body although nobody read it")
    client.settimeout(10)
    (replica.folder / "go").touch()
    assert replica.send(b"x" * (size - sent), client=client).endswith(b"\r\n\r\n8000000")


def test_a_failed_start_is_told_to_the_platform(start_replica: StartReplica) -> None:
    handler = """
import contextlib
from starlette.applications import Starlette
@contextlib.asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no database")
    yield
app = Starlette(lifespan=lifespan)
"""
    replica = start_replica(handler, "python3-asgi")
    assert replica.notified["failed"] == "handler.py line 6: RuntimeError: no database"
    assert replica.wait() == 1


KNATIVE = """
def new():
    return Function()
class Function:
    def start(self, config):
        self.name = config["NAME"]
        print("start")
    async def handle(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"text/plain"]]})
        await send({"type": "http.response.body", "body": self.name.encode()})
    def alive(self):
        return True, "well"
    async def ready(self):
        return False
    def stop(self):
        print("stop")
"""


def test_a_knative_function(start_replica: StartReplica) -> None:
    replica = start_replica(KNATIVE, "python3-asgi", NAME="kn")
    assert replica.call("/").body == b"kn"
    alive, ready = replica.call("/health/liveness"), replica.call("/health/readiness")
    assert (alive.status, alive.body) == (200, b"well")
    assert (ready.status, ready.body) == (500, b"not ready")
    replica.terminate()
    assert replica.wait() == 0
    assert replica.log == ["start", "stop"]


def test_a_knative_function_without_a_class(start_replica: StartReplica) -> None:
    handler = application(START + '    await send({"type": "http.response.body", "body": b"bare"})').replace(
        "def app", "def handle"
    )
    replica = start_replica(handler, "python3-asgi")
    assert replica.call("/").body == b"bare"
    assert replica.call("/health/readiness").body == b"OK"
