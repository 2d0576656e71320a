"""One role that runs apart, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from cli.apart.parts import Role
from cli.process import CannotServe, Life, tell_ready
from cli.settings import ServeSettings
from gateway.control.auth import NoLogin
from gateway.edge import handshake
from orchestration.local.failures import StorageError
from telemetry import service_manager

log = logging.getLogger("pinnace.platform")


async def serve(settings: ServeSettings) -> int:
    """Run one role until SIGTERM or SIGINT; return the exit code. Raises CannotServe."""
    life = Life()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.stop)
    role = _role(settings.role)
    life.waiting = asyncio.current_task()
    try:
        async with role(settings, _secret(settings), life) as (where, drain):
            life.waiting = None
            tell_ready(where)
            await life.over.wait()
            service_manager.notify("STOPPING=1")
            log.info("stopping")
            await drain()
    except (StorageError, NoLogin) as error:
        raise CannotServe(str(error)) from None
    except asyncio.CancelledError:
        if life.waiting is None:
            raise
        log.info("stopped before it served")
    return life.code


def _role(name: str) -> Role:
    """Return what runs the role; the others' modules are not imported."""
    if name == "edge":
        from cli.apart.edge import edge

        return edge
    if name == "control":
        from cli.apart.control import control

        return control
    from cli.apart.controller import controller

    return controller


def _secret(settings: ServeSettings) -> bytes:
    try:
        return handshake.check_secret(Path(settings.link_secret_file).read_bytes())
    except OSError as error:
        raise CannotServe(f"{settings.link_secret_file}: {error.strerror}") from None
    except handshake.UnfitSecret as error:
        raise CannotServe(f"{settings.link_secret_file}: {error}") from None
