"""What every process of the platform has: until when it runs, its data folder and login, and words for what it cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path

from cli import credentials
from cli.errors import CliError
from cli.settings import ServeSettings
from gateway.control.auth import Auth
from orchestration.events import Event
from orchestration.orchestrator import Orchestrator
from telemetry import service_manager

log = logging.getLogger("pinnace.platform")


class CannotServe(CliError):
    """The platform, or what works on its data folder, cannot do it; the message is one sentence that says why."""


class Life:
    """Until when the platform runs: a signal ends it well, a part that ends by itself ends it badly (`code` 1)."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.code = 0
        self.waiting: asyncio.Task[object] | None = None

    def stop(self) -> None:
        """End well; a start that waits for others (`waiting` is its task) is not waited for."""
        self.over.set()
        if self.waiting is not None:
            self.waiting.cancel()

    def part_ended(self, task: asyncio.Task[None]) -> None:
        """A task that must go on as long as the platform has ended."""
        if not task.cancelled():
            log.critical("an inner part ended; stopping", exc_info=task.exception())
            self.code = 1
            self.over.set()


def auth_of(settings: ServeSettings) -> Auth:
    """Return who may do what: the login of the folder, or the one that is mounted. Raises NoLogin."""
    mounted = os.environ.get("secret_mount_path")  # noqa: SIM112  # OpenFaaS's name
    return Auth.open(settings.folder, enabled=settings.auth, secret_mount_path=Path(mounted) if mounted else None)


def save_login(url: str, user: str, password: str) -> None:
    """Write the login to the command's own configuration; the platform serves without it too."""
    try:
        credentials.save_login(url, user, password)
    except Exception as error:
        log.warning("the login was not written to %s: %s", credentials.config_path(), error)


def cannot_listen(where: str, error: OSError) -> CannotServe:
    """What is wrong with the address, without asyncio's words around it: they say the address again."""
    reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or error
    return CannotServe(f"cannot listen on {where}: {reason}; choose another with --port")


def collect_seldom() -> None:
    """Look for cyclic garbage after 10,000 new objects instead of 700: some hundred calls under way hold as many at any moment,
    and looking through those again and again was a fifth of what an asynchronous call cost."""
    gc.set_threshold(10_000, 20, 20)


def tell_ready(where: str) -> None:
    """Say that the platform serves at `where`.

    What it is made of stays as long as it: 25,000 objects, which passes over garbage leave out from here on. Looking through
    them held the event loop for 18 ms.
    """
    gc.collect()
    gc.freeze()
    print(f"ready {where}", flush=True)
    service_manager.notify("READY=1")


def url_of(host: str, port: int) -> str:
    """Return the address that people on this machine use."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://{f'[{name}]' if ':' in name and '[' not in name else name}:{port}"


def pumped(
    stack: contextlib.AsyncExitStack, orchestrator: Orchestrator, life: Life, *listeners: Callable[[Event], None]
) -> None:
    """Tell the listeners, in their order, of all that there is and of every change, until the stack is left."""

    async def pump() -> None:
        async for event in orchestrator.watch():
            for listener in listeners:
                listener(event)

    pumping = asyncio.create_task(pump())
    pumping.add_done_callback(life.part_ended)
    stack.push_async_callback(_cancel, pumping)


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])
