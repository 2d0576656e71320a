"""What the tests of local orchestration share: bundles that run `programs/replica.py`, and ways to wait for what happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from orchestration.bundle import Bundle, Layer, LayerKind, UnknownBundle
from orchestration.events import Event, ReplicaChanged
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.replica import Replica, ReplicaState
from orchestration.spec import FunctionSpec

PROGRAM = Path(__file__).parent / "programs" / "replica.py"
WITHIN_S = 20.0


class Bundles:
    """Images `good:N`, which run the test program, and whatever a test adds."""

    def __init__(self, folder: Path) -> None:
        self.code = folder
        self.commands: dict[str, tuple[str, ...]] = {}

    def resolve(self, image: str) -> Bundle:
        name = image.removeprefix("sha256:")
        if name not in self.commands and not name.startswith("good"):
            raise UnknownBundle(f"no bundle is called {image!r}: build it with `faas build`")
        command = self.commands.get(name, ("{python}", "-I", "-S", "{code}/replica.py"))
        return Bundle(
            digest=f"sha256:{name}",
            template="test",
            command=command,
            env={"FROM_BUNDLE": "bundle", "BOTH": "bundle"},
            python="3.11",
            layers=(Layer(LayerKind.CODE, "sha256:code", 1),),
        )

    def folder(self, layer: Layer) -> Path:
        return self.code


class Watch:
    """Everything that an orchestrator told, and a wait for what it will tell."""

    def __init__(self, orchestrator: LocalOrchestrator, release: bool = True) -> None:
        self._orchestrator = orchestrator
        self._release = release
        self._changed = asyncio.Event()
        self.events: list[Event] = []
        self.replicas: dict[str, Replica] = {}

    async def run(self) -> None:
        async for event in self._orchestrator.watch():
            self.events.append(event)
            if isinstance(event, ReplicaChanged):
                self.replicas[event.replica.id] = event.replica
                if event.replica.state is ReplicaState.DRAINING and self._release:
                    self._orchestrator.released(event.replica.id)
            self._changed.set()

    async def until(self, condition: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Wait until `condition()` holds; it is looked at after each event."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def running(self, revision: str = "") -> list[Replica]:
        return [r for r in self.replicas.values() if r.state is ReplicaState.RUNNING and r.revision.endswith(revision)]


async def until(condition: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Wait until `condition()` holds, looking often: for what nobody tells."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def get(replica: Replica, path: str) -> tuple[int, str]:
    """Call the replica."""
    assert replica.endpoint is not None
    async with asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_unix_connection(replica.endpoint.unix)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            return int(head.split()[1]), (await reader.readexactly(length)).decode()
        finally:
            writer.close()
            await writer.wait_closed()


def spec(name: str = "hello", image: str = "good:1", **fields: object) -> FunctionSpec:
    return FunctionSpec(service=name, image=image, **fields)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextlib.asynccontextmanager
async def watching(orchestrator: LocalOrchestrator, release: bool = True) -> AsyncIterator[Watch]:
    made = Watch(orchestrator, release)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
