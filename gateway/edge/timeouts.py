"""Every deadline of the edge, kept by one sweep instead of a timer for each call.

A warm call only stores floats (`connection.deadline`, `call.deadline`); four times a second all connections are looked
at. 10,000 of them take about a millisecond. A call's deadline is counted by the clock itself and is met at most 0.25 s late,
never early; a connection's is counted from the last sweep and may be met 0.25 s early as well.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.edge.context import EdgeContext

SWEEP_S: Final = 0.25


class Sweep:
    """Ends what took too long; each second tells loads and closes connections that nobody used."""

    def __init__(self, context: EdgeContext) -> None:
        self._context = context
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_at = context.now

    def start(self) -> None:
        """Begin to sweep on the running loop."""
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._again)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run(self) -> None:
        """Sweep once."""
        context = self._context
        context.turn()
        now = context.now
        late = [c for c in context.connections if c.deadline <= now or (c.call is not None and c.call.deadline <= now)]
        for connection in late:
            connection.expire(now)
        context.routes.sweep(now)
        if now - self._ticked_at >= 1.0:
            self._ticked_at = now
            context.routes.tick(now, now - context.settings.upstream_idle_s)

    def _again(self) -> None:
        self.start()
        self.run()
