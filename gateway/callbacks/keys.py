"""The keys that sign callbacks: the platform's own, or those of the secret that a function names.

A secret has a key on each line. The first one is the newest; all of them sign, so that a receiver who knows one of them is
content while keys are changed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from orchestration.orchestrator import NotFound, Refused, Unavailable

MOST_KEYS: Final = 4
KNOWN_S: Final = 10.0
"""So long the keys of a secret are taken from memory: 100 callbacks a second are not 100 questions to a cluster's API."""
MOST_KNOWN: Final = 256

SecretValue = Callable[[str, str], Awaitable[bytes]]
"""(namespace, name) → the secret. Raises orchestrator.NotFound, Refused, Unavailable."""


class NoSecret(Exception):
    """A secret that signs callbacks cannot be had, or is none; the message names it."""


class _Known(NamedTuple):
    keys: tuple[bytes, ...]
    until: float


class Keys:
    """`own` are the platform's. `clock` is monotonic seconds."""

    def __init__(self, own: tuple[bytes, ...], secret_value: SecretValue, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._secret_value = secret_value
        self._clock = clock
        self._known: dict[tuple[str, str], _Known] = {}

    async def of(self, namespace: str, name: str) -> tuple[bytes, ...]:
        """Return the keys of a secret, at most KNOWN_S old; the platform's own where `name` is empty. While those who keep it
        do not answer, the last ones that were known hold. Raises NoSecret."""
        if not name:
            return self._own
        known = self._known.get((namespace, name))
        now = self._clock()
        if known is not None and now < known.until:
            return known.keys
        try:
            keys = keys_of(await self._secret_value(namespace, name), f"secret {name!r} in namespace {namespace!r}")
        except Unavailable as error:
            if known is None:
                raise NoSecret(str(error)) from None
            keys = known.keys
        except (NotFound, Refused) as error:
            self._known.pop((namespace, name), None)
            raise NoSecret(str(error)) from None
        self._known.pop((namespace, name), None)
        self._known[namespace, name] = _Known(keys, now + KNOWN_S)
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return keys


def keys_of(secret: bytes, name: str) -> tuple[bytes, ...]:
    """Return the keys in a secret that is called `name`: its lines, without the white space around them. Raises NoSecret."""
    keys = tuple(line.strip() for line in secret.splitlines() if line.strip())
    if not keys:
        raise NoSecret(f"{name} is empty: a key that signs callbacks is needed")
    if len(keys) > MOST_KEYS:
        raise NoSecret(f"{name} has {len(keys)} lines: at most {MOST_KEYS} keys, one on each")
    return keys
