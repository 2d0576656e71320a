"""uvicorn as a part of a process: entered and left, without signal handlers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from cli.process import CannotServe, cannot_listen, url_of
from cli.settings import ServeSettings


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are the platform's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listener_of(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens where the settings say. Raises CannotServe."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise cannot_listen(url_of(settings.host, settings.port), error) from None


@contextlib.asynccontextmanager
async def control_server(app: ASGIApp, path: Path) -> AsyncIterator[None]:
    """Serve `app` on the Unix socket `path`."""
    closed = path.with_name("closed")
    closed.mkdir(mode=0o700)  # uvicorn opens its socket to all, and functions have nothing to say here
    try:
        async with uvicorn_server(app, uds=str(closed / "socket")):
            (closed / "socket").chmod(0o600)
            (closed / "socket").rename(path)
            yield
    finally:
        path.unlink(missing_ok=True)
        shutil.rmtree(closed, ignore_errors=True)


@contextlib.asynccontextmanager
async def uvicorn_server(
    app: ASGIApp, *, uds: str | None = None, sockets: list[socket.socket] | None = None
) -> AsyncIterator[None]:
    """Serve `app` on a Unix socket or on listening sockets."""
    config = uvicorn.Config(
        app,
        uds=uds,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=sockets))
    try:
        while not server.started:
            if serving.done():
                raise CannotServe(f"the control API cannot listen on {uds or 'its port'}")
            await asyncio.sleep(0.001)
        yield
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 3)
