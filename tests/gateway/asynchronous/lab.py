"""An edge with everything that asynchronous calls need, and functions with scripted replicas."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from gateway.asynchronous.acceptor import Acceptor
from gateway.asynchronous.caller import Caller
from gateway.asynchronous.carrier import Execution, FunctionCarrier
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.workers import Workers
from gateway.edge.settings import EdgeSettings
from orchestration.events import Event, FunctionChanged
from orchestration.function import Function
from orchestration.replica import Endpoint
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from tests.gateway.edge.lab import Lab, field

PROMPT = {"com.openfaas.retry.min_wait": "0", "com.openfaas.retry.max_wait": "10ms", "com.openfaas.retry.attempts": "3"}
"""Annotations of a function whose calls are tried again at once."""


class Answered(msgspec.Struct):
    """A response."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        return (field(self.head, name.encode()) or b"").decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class AsyncLab(Lab):
    """`settings` are those of asynchronous calls, `edge` those of the edge. Workers are there once `work` was called. `inside`
    where edge, acceptor and workers speak to each other without sockets, as in one process."""

    def __init__(
        self, folder: Path, settings: AsyncSettings, edge: EdgeSettings | None = None, *, inside: bool = False
    ) -> None:
        super().__init__(folder)
        self.within = inside
        self.edge_settings = edge or EdgeSettings()
        self.settings = settings
        self.known = Functions()
        self.store: SqliteStore
        self.accepting: Acceptor
        self.workers: Workers | None = None
        self._stack = contextlib.AsyncExitStack()

    async def begin(self) -> None:
        """Open the store, accept calls, serve."""
        self.store = await asyncio.to_thread(SqliteStore, self.folder)
        path = self.folder / "async"
        accepting = Acceptor(path, self.store, self.known, self.settings, cancelled=self._cancelled)
        self.accepting = await self._stack.enter_async_context(accepting)
        self.acceptor = Endpoint(unix=str(path))
        if self.within:
            self.inside = {self.acceptor: accepting.accept}
        await self.start(msgspec.structs.replace(self.edge_settings, port=0, inner_folder=str(self.folder)))

    async def work(self) -> Workers:
        """Carry out what was accepted."""
        edge = self.edge.inner if self.within else self.edge.settings.inner_socket
        caller = Caller([edge], self.store.spool, self.settings.result_bytes)
        self._stack.callback(caller.close)
        execution = Execution(self.store, self.known, {"": FunctionCarrier(self.store, caller, self.known)})
        self.workers = await self._stack.enter_async_context(Workers(self.store, self.known, execution, self.settings))
        return self.workers

    async def end(self) -> None:
        """End everything."""
        await self._stack.aclose()
        await self.stop()
        await self.store.close()

    def apply(self, event: Event) -> None:
        self.known.apply(event)
        super().apply(event)

    def deploy_with(self, name: str, annotations: dict[str, str]) -> Function:
        """Deploy a function with annotations."""
        spec = FunctionSpec(service=name, image="x", annotations=annotations)
        key = f"{name}.openfaas-fn"
        function = self.functions[key] = deploy(self.functions.get(key), spec, "sha256:0", 0.0)
        self.apply(FunctionChanged(function))
        return function

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answered:
        """Ask on a new connection; underscores in names of headers stand for hyphens."""
        client = await self.client()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        client.send(f"{method} {path} HTTP/1.1\r\nHost: gateway.example\r\n{lines}{length}\r\n".encode() + body)
        return Answered(*await client.response(head_only=method == "HEAD"))

    async def submit(self, path: str = "/async-function/echo", body: bytes = b"", **headers: str) -> str:
        """Submit a call that is accepted; return its id."""
        answered = await self.ask("POST", path, body, **headers)
        assert answered.status == 202, answered
        return answered.header("x-call-id")

    async def outcome(self, call_id: str) -> Any:
        """Return what is known of a call once it has ended."""
        answered = await self.ask("GET", f"/async-function/{call_id}?wait=9s")
        assert answered.status == 200, answered
        return answered.json

    def _cancelled(self, call_id: str) -> None:
        if self.workers is not None:
            self.workers.cancelled(call_id)
