"""The ASGI lifespan protocol: the application's own start and end around the calls."""

from __future__ import annotations

import asyncio
from typing import Any

from pinnace_runtime import logs
from pinnace_runtime.asgi import Application, Message
from pinnace_runtime.loading import LoadFailed, load_failed

FAILURE_WITHIN_S = 1.0
SHUTDOWN_WITHIN_S = 10.0


class Lifespan:
    """Starts and ends an application; one that does not know the protocol is served without it."""

    def __init__(self, application: Application, code: str) -> None:
        self.state: dict[str, Any] = {}
        self._application = application
        self._code = code
        self._to_application: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._took_part = False

    async def start(self) -> None:
        """Start the application. Raises LoadFailed when it says that it cannot."""
        scope: Message = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.get_running_loop().create_task(self._run(scope))
        self._to_application.put_nowait({"type": "lifespan.startup"})
        await asyncio.wait((self._task, self._answer), return_when=asyncio.FIRST_COMPLETED)
        message = self._answer.result() if self._answer.done() else {"type": ""}
        if message["type"] == "lifespan.startup.complete":
            return
        # An application that fails after it took the first message meant to start; before that it does not know the protocol.
        await asyncio.wait((self._task,), timeout=FAILURE_WITHIN_S)
        error = self._task.exception() if self._task.done() else None
        if isinstance(error, LoadFailed):
            raise error
        if error is not None and self._took_part:
            raise load_failed(error, self._code)
        if message["type"] == "lifespan.startup.failed":
            lines = str(message.get("message") or "the application's startup failed").strip().splitlines()
            raise LoadFailed(lines[-1], "\n".join(lines) + "\n")

    async def stop(self) -> None:
        """End the application; what fails then is logged."""
        if self._task is None or self._task.done():
            return
        self._answer = asyncio.get_running_loop().create_future()
        self._to_application.put_nowait({"type": "lifespan.shutdown"})
        done, _ = await asyncio.wait((self._task, self._answer), return_when=asyncio.FIRST_COMPLETED, timeout=SHUTDOWN_WITHIN_S)
        if not done:
            logs.log(f"the application's shutdown took longer than {SHUTDOWN_WITHIN_S:g} s")
        elif self._task in done and (error := self._task.exception()):
            logs.log_exception(error)
        elif self._answer.done() and self._answer.result()["type"] == "lifespan.shutdown.failed":
            logs.log(f"the application's shutdown failed: {self._answer.result().get('message', '')}")

    async def _run(self, scope: Message) -> None:
        await self._application(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self._took_part = True
        return await self._to_application.get()

    async def _send(self, message: Message) -> None:
        if not self._answer.done():
            self._answer.set_result(message)
