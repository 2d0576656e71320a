from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.cloudevents.router import Router
from gateway.control.app import control_app
from gateway.control.auth import Auth, Login
from gateway.control.info import About
from gateway.control.origin import Hosts
from gateway.edge.tally import Tally
from gateway.monitor.monitor import Monitor
from gateway.timers.book import Mark
from orchestration.decisions import Decision, Rule, Scaling
from orchestration.load_history import LoadHistory
from orchestration.names import FunctionId
from orchestration.scaling import ScaleSettings
from orchestration.timers import Timer
from tests.fakes.builder import FakeBuilder
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import LOGIN, Client

PAYLOAD_SECRET = b"payload secret"
BUILD_BODY_LIMIT = 1 << 22


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[Client]:
    """Serve `app` on a free port, with the server that serves it in earnest."""
    config = uvicorn.Config(app, lifespan="on", ws="none", log_config=None, timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it each answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        await server.startup(sockets=[listening])
        try:
            yield Client("127.0.0.1", listening.getsockname()[1])
        finally:
            await server.shutdown(sockets=[listening])


@pytest.fixture
def orchestrator() -> FakeOrchestrator:
    return FakeOrchestrator()


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
def invocations() -> dict[FunctionId, int]:
    return {}


@pytest.fixture
def scalings() -> dict[str, Scaling]:
    """How functions are scaled, by name."""
    decision = Decision(
        at=1_700_000_000.0,
        replicas=2,
        previous=1,
        rule=Rule.STABLE,
        reason="12 calls at a time over 1m / target 7 → 2",
        ready=1,
        starting=0,
        in_flight=10,
        queued=2,
        stable=12.0,
        panic=None,
        aim=7.0,
        idle_s=0.0,
    )
    return {"hello": Scaling(settings=ScaleSettings(), latest=decision, changes=(decision,))}


@pytest.fixture
def histories() -> dict[FunctionId, LoadHistory]:
    """The load that functions had."""
    return {}


@pytest.fixture
def tallies() -> dict[FunctionId, Tally]:
    """What is counted of functions' calls."""
    return {}


@pytest.fixture
def monitor(orchestrator: FakeOrchestrator, tallies: dict[FunctionId, Tally]) -> Monitor:
    """Looks when a test says so, always at the same time."""
    return Monitor(orchestrator, lambda: tallies, dict, lambda: 1_700_000_105.0)


class Kept:
    """Keeps asynchronous calls by their keys; `refusal` is raised instead where it is set."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], Submission] = {}
        self.refusal: Exception | None = None

    async def submit(self, submissions: Sequence[Submission]) -> list[Receipt]:
        if self.refusal is not None:
            raise self.refusal
        receipts = []
        for one in submissions:
            key = (one.queue, one.idempotency_key)
            repeated = key in self.calls
            self.calls.setdefault(key, one)
            receipts.append(Receipt(f"call-{list(self.calls).index(key)}", repeated))
        return receipts


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def router(kept: Kept) -> Router:
    return Router(kept.submit)


@pytest.fixture
def marks() -> dict[tuple[FunctionId, Timer], Mark]:
    """What was done of timers."""
    return {}


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[SqliteStore]:
    """Keeps asynchronous calls."""
    folder = tmp_path / "calls"
    folder.mkdir()
    store = SqliteStore(folder)
    yield store
    store.shut()


Application = Callable[..., Starlette]


@pytest.fixture
def application(
    orchestrator: FakeOrchestrator,
    builder: FakeBuilder,
    invocations: dict[FunctionId, int],
    scalings: dict[str, Scaling],
    histories: dict[FunctionId, LoadHistory],
    monitor: Monitor,
    router: Router,
    marks: dict[tuple[FunctionId, Timer], Mark],
    calls: SqliteStore,
    tmp_path: Path,
) -> Application:
    def make(*, auth: Auth | None = None, hosts: Hosts | None = None) -> Starlette:
        return control_app(
            orchestrator=orchestrator,
            builder=builder,
            auth=auth or Auth(Login(*LOGIN), PAYLOAD_SECRET),
            hosts=hosts or Hosts(),
            invocations=lambda function: invocations.get(function, 0),
            about=About("1.2.3"),
            data_dir=tmp_path,
            monitor=monitor,
            build_body_limit_bytes=BUILD_BODY_LIMIT,
            explain=lambda function: scalings.get(function.name),
            recorded=lambda function: histories.get(function, LoadHistory(since=0.0)),
            router=router,
            mark_of=lambda function, timer: marks.get((function, timer)),
            calls=calls,
        )

    return make


@pytest.fixture
async def client(application: Application) -> AsyncIterator[Client]:
    """A client of the API, logged in."""
    async with serving(application()) as client:
        yield client


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Return when `condition` is true; fails the test after `within_s` seconds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - any condition, also one that nobody tells of
            await asyncio.sleep(0.005)
