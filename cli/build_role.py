"""The build API as a process of its own: contexts come in, images go to registries, and nothing runs here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal

import uvloop

from builder.registry.reference import ANY
from cli.building import builder_of, bundle_store
from cli.http_server import listener_of, uvicorn_server
from cli.process import CannotServe, Life, auth_of, save_login, url_of
from cli.settings import ServeSettings
from gateway.control.app import build_app
from gateway.control.auth import NoLogin
from gateway.control.origin import Hosts
from orchestration.local.data_folder import DataFolder
from orchestration.local.failures import StorageError
from telemetry import logs, service_manager

log = logging.getLogger("pinnace.platform")


def build_service(settings: ServeSettings) -> int:
    """Run the build API alone until SIGTERM or SIGINT; return the exit code. Raises CannotServe."""
    logs.configure(settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_build_service(settings))


async def _build_service(settings: ServeSettings) -> int:
    life = Life()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.over.set)
    async with contextlib.AsyncExitStack() as stack:
        bundles = bundle_store(settings)
        try:
            stack.enter_context(DataFolder(settings.folder))
            auth = await asyncio.to_thread(auth_of, settings)
        except (StorageError, NoLogin) as error:
            raise CannotServe(str(error)) from None
        builder = await stack.enter_async_context(
            builder_of(dataclasses.replace(settings, registries=settings.registries or (ANY,)), bundles, images_only=True)
        )
        api = build_app(
            builder=builder,
            auth=auth,
            hosts=Hosts(settings.allow_hosts, settings.host),
            data_dir=settings.folder,
            build_body_limit_bytes=settings.build_body_limit_bytes,
        )
        listener = stack.enter_context(listener_of(settings))
        await stack.enter_async_context(uvicorn_server(api, sockets=[listener]))
        url = url_of(settings.host, listener.getsockname()[1])
        if settings.auth and settings.save_login and auth.login is not None:
            await asyncio.to_thread(save_login, url, auth.login.user, auth.login.password)
        print(f"ready {url}", flush=True)
        service_manager.notify("READY=1")
        await life.over.wait()
        service_manager.notify("STOPPING=1")
        log.info("stopping")
    return life.code
