"""Who writes takes turns: one rule for functions and what they refer to, the namespace and the secrets in it.

- Who changes a function holds its lock.
- Who changes what functions refer to holds the namespace's.
- Who makes a function refer to something (a deploy with secrets, calls that move to another revision) holds both, the
  namespace's first: between looking for what is referred to and writing that it is, nobody takes it away.

So of "use it" and "take it away", asked for at once, one is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator

from orchestration.names import FunctionId


class Locks:
    """The locks of one process. One that nobody holds or waits for is not kept."""

    def __init__(self) -> None:
        self._held: weakref.WeakValueDictionary[str | FunctionId, asyncio.Lock] = weakref.WeakValueDictionary()

    def namespace(self, name: str) -> asyncio.Lock:
        """Return the lock under which the namespace and its secrets are changed."""
        return self._held.setdefault(name, asyncio.Lock())

    def function(self, function: FunctionId) -> asyncio.Lock:
        """Return the lock under which the function is changed."""
        return self._held.setdefault(function, asyncio.Lock())

    @contextlib.asynccontextmanager
    async def referring(self, function: FunctionId) -> AsyncIterator[None]:
        """Hold what it takes to make the function refer to something."""
        async with self.namespace(function.namespace), self.function(function):
            yield
