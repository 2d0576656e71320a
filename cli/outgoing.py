"""Wires what callbacks need to leave the platform: where they may go, the sender, the keys that sign them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from cli.errors import CliError
from cli.settings import ServeSettings
from gateway.callbacks.addresses import LOOPBACK, PUBLIC, Allowed
from gateway.callbacks.keys import Keys, NoSecret, SecretValue
from gateway.callbacks.sending import Sender
from gateway.callbacks.signature import load_secret
from gateway.callbacks.target import Guard


class CannotSign(CliError):
    """The callback secret cannot be had; the message is one sentence that says why."""


class Outgoing(NamedTuple):
    """`guard` is to be told the platform's own port once it is known, where functions run on this machine."""

    guard: Guard
    sender: Sender
    keys: Keys
    retry_for_s: float


@contextlib.asynccontextmanager
async def outgoing(settings: ServeSettings, secret_value: SecretValue) -> AsyncIterator[Outgoing]:
    """Make ready to send callbacks; `secret_value` reads those secrets that functions name. Raises CannotSign."""
    file = Path(settings.callback_secret) if settings.callback_secret else None
    try:
        own = await asyncio.to_thread(load_secret, settings.folder, file)
    except NoSecret as error:
        raise CannotSign(str(error)) from None
    guard = Guard(Allowed(settings.callback_allow or default_allowed(settings)))
    yield Outgoing(guard, Sender(guard), Keys(own, secret_value), settings.callback_retry_for_s)


def default_allowed(settings: ServeSettings) -> tuple[str, ...]:
    """Return where callbacks may go where nothing is set. Who can reach a platform that listens on loopback alone is on this
    machine already; so its callbacks open nothing to them there."""
    if settings.orchestration == "local" and _is_loopback(settings.host):
        return (PUBLIC, LOOPBACK)
    return (PUBLIC,)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
