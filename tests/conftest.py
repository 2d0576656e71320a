"""The process that runs the tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let Ctrl-C be what it is: who starts a process in the background, as shells do, has it ignored in all below it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
