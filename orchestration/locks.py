"""Who writes takes turns: one rule for functions and what they refer to, the namespace and the secrets in it.

- Who changes a function holds its lock.
- Who makes a function refer to something (a deploy, calls that move to another revision) also `uses` the namespace, and that
  first: many do so at a time, and while they look for what is referred to and write that it is, nobody takes it away.
- Who changes what functions refer to (takes a secret or the namespace away) has the namespace alone.

So of "use it" and "take it away", asked for at once, one is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator

from orchestration.names import FunctionId


class _Namespace:
    """Held by many at a time, or by one alone, who goes before those that come later."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        async with self._gate:
            self._users += 1
            self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._unused.wait()
            yield


class Locks:
    """The locks of one process. One that nobody holds or waits for is not kept. None is taken twice by the same task."""

    def __init__(self) -> None:
        self._functions: weakref.WeakValueDictionary[FunctionId, asyncio.Lock] = weakref.WeakValueDictionary()
        self._namespaces: weakref.WeakValueDictionary[str, _Namespace] = weakref.WeakValueDictionary()

    def function(self, function: FunctionId) -> asyncio.Lock:
        """Return the lock under which the function is changed."""
        return self._functions.setdefault(function, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def uses(self, namespace: str) -> AsyncIterator[None]:
        """Let nobody change the namespace or the secrets in it."""
        async with self._namespace(namespace).used():
            yield

    @contextlib.asynccontextmanager
    async def changes(self, namespace: str) -> AsyncIterator[None]:
        """Change the namespace or the secrets in it, while nobody uses them."""
        async with self._namespace(namespace).alone():
            yield

    @contextlib.asynccontextmanager
    async def referring(self, function: FunctionId) -> AsyncIterator[None]:
        """Change the function, and what it refers to."""
        async with self.uses(function.namespace), self.function(function):
            yield

    def _namespace(self, name: str) -> _Namespace:
        return self._namespaces.setdefault(name, _Namespace())
