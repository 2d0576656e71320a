"""Bundles of Python functions, run by the project's own runtime: what a zygote can be made of."""

from __future__ import annotations

import contextlib
import json
import select
from pathlib import Path

from orchestration.bundle import Bundle, Layer, LayerKind, UnknownBundle
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.replica import Replica
from orchestration.spec import FunctionSpec
from tests.orchestration.local.world import Watch, get

RUNTIME = Path(__file__).parents[3] / "runtime-templates" / "_python"
ANSWER = """
def handle(event, context):
    return str(answer(event.path) if callable(answer) else answer)
"""


class Functions:
    """Images whose handler's source a test gives; each is a folder below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[str, str] = {}

    def add(self, image: str, source: str, template: str = "python3-http", **fields: object) -> FunctionSpec:
        """Let `image` be the function of that source, and return a spec that deploys it, with these fields.

        A source that defines `answer`, a text or a function of the path, needs no `handle`.
        """
        code = self._folder / image / "function"
        code.mkdir(parents=True)
        (code / "handler.py").write_text(source if "def handle" in source or template == "python3-asgi" else source + ANSWER)
        self._templates[image] = template
        return FunctionSpec(**{"service": image, "image": image, **fields})  # type: ignore[arg-type]

    def resolve(self, image: str) -> Bundle:
        name = image.removeprefix("sha256:")
        if name not in self._templates:
            raise UnknownBundle(f"no bundle is called {image!r}: build it with `faas build`")
        return Bundle(
            digest=f"sha256:{name}",
            template=self._templates[name],
            command=("{python}", "-I", "{runtime}/pinnace_runtime/__main__.py", self._templates[name]),
            env={},
            python="3.11",
            layers=(Layer(LayerKind.RUNTIME, "runtime", 1), Layer(LayerKind.CODE, name, 1)),
        )

    def folder(self, layer: Layer) -> Path:
        return RUNTIME if layer.kind is LayerKind.RUNTIME else self._folder / layer.digest


async def started(orchestrator: LocalOrchestrator, watch: Watch, spec: FunctionSpec, replicas: int = 1) -> list[Replica]:
    """Deploy the function with so many replicas, and return them when they run."""
    function = await orchestrator.apply(spec)
    await orchestrator.scale(function.newest.key, replicas)
    await watch.until(lambda: len(running(watch, spec.service)) == replicas)
    return running(watch, spec.service)


def running(watch: Watch, function: str) -> list[Replica]:
    return [replica for replica in watch.running() if replica.function == function]


async def ask(replica: Replica, path: str = "/") -> str:
    """Call the replica and return what it answers."""
    status, text = await get(replica, path)
    assert status == 200, text
    return text


async def ask_json(replica: Replica, path: str = "/") -> object:
    return json.loads((await ask(replica, path)).replace("'", '"'))


def note(orchestrator: LocalOrchestrator, function: str) -> str:
    """What the status says about how the function's replicas start."""
    notes = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, function)).notes
    return next((note for note in notes if note.startswith(("replicas are forks", "replicas import"))), "")


def said_all(orchestrator: LocalOrchestrator, function: str) -> bool:
    """Whether the replicas have closed their notify pipes, which they do a moment after they have said that they are ready."""
    poller = select.poll()
    processes = orchestrator._supervisor.processes(FunctionId(DEFAULT_NAMESPACE, function))
    for process in processes:
        assert process.launched is not None
        poller.register(process.launched.notify, 0)  # only its end is told
    return len(poller.poll(0)) == len(processes)


def zygote(orchestrator: LocalOrchestrator, function: str) -> int:
    """The pid of the function's zygote, as the status has it."""
    return int(note(orchestrator, function).partition("(pid ")[2].rstrip(")"))


def comm(pid: int) -> str:
    """The process's name; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
