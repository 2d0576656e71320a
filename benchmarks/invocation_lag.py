"""`faas`, with the lag of its event loop written down: how late a timer that is due each 10 ms runs, in ms.

    python -m benchmarks.invocation_lag FILE serve …

FILE gets one line for each tick.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final, TextIO

import uvloop

from cli.main import main

EVERY_S: Final = 0.01
_make_loop = uvloop.new_event_loop


def watched(log: TextIO) -> uvloop.Loop:
    """Return a loop that measures itself."""
    loop = _make_loop()

    def tick(due: float) -> None:
        now = time.monotonic()
        log.write(f"{(now - due) * 1000:.3f}\n")
        loop.call_later(EVERY_S, tick, now + EVERY_S)

    loop.call_soon(tick, time.monotonic())
    return loop


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", buffering=1) as log:
        uvloop.new_event_loop = lambda: watched(log)
        sys.argv[1:] = sys.argv[2:]
        main()
