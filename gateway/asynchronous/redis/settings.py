"""Which Redis server keeps calls, and how much is asked of it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

SCHEMES: Final = ("redis", "rediss", "unix")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class InvalidRedisSetting(ValueError):
    """A setting cannot be; the message says what would be right."""


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`url` is `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`, `rediss://…` for TLS, or `unix://PATH[?db=N]`. The first line of
    `password_file` is the password, read anew for each connection. `name` tells platforms apart that share a server: all
    keys begin with it in braces. An answer is waited for `timeout_s`. With `wait_for_disk` a server that syncs its log every
    second is asked to have synced before a call is acknowledged, where it can be asked (WAITAOF, Redis 7.2).

    Raises InvalidRedisSetting.
    """

    url: str
    password_file: str = ""
    name: str = "pinnace"
    timeout_s: float = 5.0
    wait_for_disk: bool = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            well = parts.scheme in SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
            well = well and (parts.scheme == "unix" or parts.port != 0)
            if parts.scheme != "unix" and parts.path not in ("", "/"):
                well = well and parts.path[1:].isdecimal()
        except ValueError:
            well = False
        if not well:
            raise InvalidRedisSetting(f"{self.shown!r}: redis://HOST:PORT/DB, rediss://HOST:PORT/DB (TLS) or unix://PATH")
        if not _NAME.fullmatch(self.name):
            raise InvalidRedisSetting(f"{self.name!r}: 1 to 64 letters, digits, `_`, `.`, `:`, `-`")
        if self.timeout_s <= 0:
            raise InvalidRedisSetting("a time-out is more than 0")

    @property
    def shown(self) -> str:
        """The address for people and logs, without what authorises."""
        scheme, separator, rest = self.url.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
