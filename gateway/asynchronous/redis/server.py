"""The connection to the Redis server: what its errors mean to people, and when what was written is durable.

A command is sent once: after a lost connection nobody knows whether it was carried out, and none is repeated behind the
caller's back. What holds of durability is read from the server's own settings, anew for each server that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from gateway.asynchronous.redis.script import Script
from gateway.asynchronous.redis.settings import InvalidRedisSetting, RedisSettings
from gateway.asynchronous.store import StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("pinnace.async")

CONNECT_WITHIN_S: Final = 2.0
OLDEST: Final = (7, 0)
WAITS_FROM: Final = (7, 2)
WAIT: tuple[str | int, ...] = ("WAITAOF", 1, 0)
"""Of this server, of no replica; then comes for how many milliseconds: less than an answer is waited for."""
COMMANDS: Final = 32
CONNECTIONS_AT_MOST: Final = 100

_MEANINGS: Final = {
    "OOM": "its memory is full (maxmemory): nothing was kept; give it more, or let calls be carried out",
    "LOADING": "is loading its data after a start",
    "READONLY": "is a read-only replica: name the primary",
    "BUSY": "is busy with somebody's script",
    "MISCONF": "cannot write to its disk",
    "MASTERDOWN": "is a replica without its primary",
    "CLUSTERDOWN": "belongs to a cluster that is down",
    "MOVED": "has not the slot of these keys: name the node of the cluster that has",
    "ASK": "is giving the slot of these keys away",
    "NOAUTH": "asks for a password",
    "WRONGPASS": "does not take this password",
    "NOPERM": "does not let this user do it",
    "UNKILLABLE": "is busy with somebody's script",
    "OLDER": "holds calls as an older version kept them: let that version carry them out, or take another --queue-name",
    "NEWER": "holds calls as a newer version keeps them: use that version, or take another --queue-name",
}
_CLASSES: Final = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
}


class Durability(msgspec.Struct, frozen=True):
    """What the server promises: `waits` where it is asked (WAITAOF) to have synced before it counts; `warnings` are lines for
    people, one for each promise that it does not make."""

    waits: bool = False
    warnings: tuple[str, ...] = ()


def durability(info: dict[str, Any], appendfsync: str | None, wait_for_disk: bool) -> Durability:
    """Judge a server by its INFO and its `appendfsync` (None: it does not tell)."""
    warnings = []
    waits = False
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(f"maxmemory-policy is {policy}: calls are thrown away when memory is full; set noeviction")
    if not int(info.get("aof_enabled", 0)):
        warnings.append("the append-only file is off: a restart of the server loses calls; set appendonly yes")
    elif appendfsync != "always":
        waits = wait_for_disk and _version(info) >= WAITS_FROM
        if not waits:
            told = f"appendfsync is {appendfsync}" if appendfsync else "it does not tell its appendfsync"
            warnings.append(f"{told}: the calls of about the last second may be lost with the server; set appendfsync always")
    return Durability(waits, tuple(warnings))


def _version(info: dict[str, Any]) -> tuple[int, int]:
    major, minor, *_ = (*str(info.get("redis_version", "0.0")).split("."), "0")
    return int(major), int(minor)


class Server:
    """Connects when it is first asked for something. `close` lets go.

    `silent`: another one says what there is to be said of the same server.
    """

    def __init__(self, settings: RedisSettings, *, silent: bool = False) -> None:
        self.settings = settings
        self.client = _client(settings)
        self._known: Durability | None = None
        self._looking: asyncio.Task[Durability] | None = None
        self._warned: tuple[str, ...] = ()
        self._away = False
        self._silent = silent
        self._commands = asyncio.Semaphore(COMMANDS)

    @property
    def waits(self) -> bool:
        """Whether a change is durable only some time after it was made."""
        return self._known is not None and self._known.waits

    @property
    def key(self) -> str:
        """What all keys begin with: the hash tag that puts them into one slot of a cluster."""
        return f"{{{self.settings.name}}}"

    async def evaluate(self, script: Script, batch: bytes, name: str, *, durable: bool) -> bytes:
        """Run the script on a batch of operations, whose news bear the name, and return its reply once what it wrote is
        durable, where that is asked for. Raises StoreUnavailable."""
        known = await self.look()
        run = self._waited if durable and known.waits else self._at_once
        command = ("EVALSHA", script.sha, 1, self.key, batch, name)
        from redis.exceptions import NoScriptError

        with self._meaning():
            try:
                return await run(command)
            except NoScriptError:  # a server that has been started anew: nothing was done
                await self.client.execute_command("SCRIPT", "LOAD", script.text)
                return await run(command)

    async def _at_once(self, command: Sequence[Any]) -> bytes:
        reply: bytes = await self.client.execute_command(*command)
        return reply

    async def _waited(self, command: Sequence[Any]) -> bytes:
        """A wait is for what its own connection wrote: both go in one pipeline."""
        async with self.client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command(*command)
            pipeline.execute_command(*WAIT, int(self.settings.timeout_s * 800))
            reply, waited = await pipeline.execute()
        if int(waited[0]) < 1:
            raise StoreUnavailable(f"{self._who} has not synced its log in time: whether the change is kept is not known")
        return bytes(reply)

    async def command(self, *words: Any) -> Any:
        """Carry out one command. Raises StoreUnavailable."""
        await self.look()
        async with self._commands:
            with self._meaning():
                return await self.client.execute_command(*words)

    async def look(self) -> Durability:
        """Return what the server promises, and say once what it does not. Raises StoreUnavailable."""
        if self._known is not None:
            return self._known
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        # All who ask meanwhile share one attempt: a host that does not answer costs them its time-out once.
        return await asyncio.shield(self._looking)

    def _looked(self, task: asyncio.Task[Durability]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is None:
            self._known = task.result()

    async def _look(self) -> Durability:
        from redis.exceptions import ResponseError

        with self._meaning():
            info = await self.client.info()
            try:
                found = await self.client.config_get("appendfsync")
            except ResponseError:  # hosted servers do not let their clients read it
                found = {}
        if _version(info) < OLDEST:
            raise StoreUnavailable(f"{self._who} is Redis {info.get('redis_version')}: 7.0 or newer is needed")
        if int(info.get("loading", 0)):
            raise StoreUnavailable(f"{self._who} {_MEANINGS['LOADING']}")
        if self._away:
            self._away = False
            self._say(logging.INFO, "%s is back", self._who)
        known = durability(info, found.get("appendfsync"), self.settings.wait_for_disk)
        if known.warnings != self._warned:
            for warning in known.warnings:
                self._say(logging.WARNING, "%s: %s", self._who, warning)
            self._warned = known.warnings
        return known

    def refusal(self, word: str) -> StoreUnavailable:
        """Return what a word of an answer means."""
        return StoreUnavailable(f"{self._who} {_MEANINGS[word]}")

    def forget(self) -> None:
        """The connection was lost: who answers next may promise something else."""
        self._known = None

    def lost(self, error: Exception) -> None:
        """Say, once, that the server is away."""
        self.forget()
        if not self._away:
            self._away = True
            self._say(logging.WARNING, "asynchronous calls are refused until the server is back: %s", error)

    def _say(self, level: int, text: str, *values: object) -> None:
        if not self._silent:
            log.log(level, text, *values)

    async def close(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await self.client.aclose()

    @property
    def _who(self) -> str:
        return f"the Redis server {self.settings.shown}"

    @contextlib.contextmanager
    def _meaning(self) -> Iterator[None]:
        """Turn the client's errors into StoreUnavailable."""
        from redis.exceptions import ConnectionError as Lost
        from redis.exceptions import NoScriptError, RedisError, ResponseError
        from redis.exceptions import TimeoutError as Late

        try:
            yield
        except NoScriptError:
            raise StoreUnavailable(f"{self._who} forgets its scripts") from None
        except (Late, TimeoutError):
            self.forget()
            raise StoreUnavailable(f"{self._who} does not answer within {self.settings.timeout_s:g} s") from None
        except (Lost, ResponseError) as error:
            self.forget()
            raise StoreUnavailable(f"{self._who} {_meaning_of(error)}") from None
        except (RedisError, OSError) as error:
            self.forget()
            raise StoreUnavailable(f"{self._who} is not reached: {error}") from None


def _meaning_of(error: Exception) -> str:
    """Redis's errors begin with a word in capitals; its client takes some of them off, and names the class instead."""
    told = str(error)
    classes = [type(one).__name__ for one in (error, error.__cause__, error.__context__)]  # one of a login is wrapped
    word = next((_CLASSES[name] for name in classes if name in _CLASSES), told.partition(" ")[0])
    if word in _MEANINGS:
        return _MEANINGS[word]
    return f"is not reached: {told}" if type(error).__name__ == "ConnectionError" else f"says: {told}"


def _client(settings: RedisSettings) -> Redis:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    given: dict[str, Any] = {}
    if settings.password_file:
        given["credential_provider"] = _password_of(settings)
    try:
        return Redis.from_url(
            settings.url,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=min(CONNECT_WITHIN_S, settings.timeout_s),
            retry=Retry(NoBackoff(), 0),
            max_connections=CONNECTIONS_AT_MOST,
            protocol=2,
            client_name="pinnace",
            **given,
        )
    except (ValueError, TypeError) as error:
        raise InvalidRedisSetting(f"{settings.shown}: {error}") from None


def _password_of(settings: RedisSettings) -> Any:
    from redis.credentials import CredentialProvider

    user = unquote(urlsplit(settings.url).username or "")

    class FromFile(CredentialProvider):
        """Read for each connection: a secret that is changed counts from the next one on."""

        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            try:
                password = Path(settings.password_file).read_text(encoding="utf-8").splitlines()[0]
            except (OSError, UnicodeDecodeError, IndexError) as error:
                reason = getattr(error, "strerror", None) or "its first line is to be the password"
                raise StoreUnavailable(f"{settings.password_file}: {reason}") from None
            return (user, password) if user else (password,)

        async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
            return await asyncio.to_thread(self.get_credentials)

    return FromFile()
