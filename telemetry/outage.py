"""Something that is tried again and again: its failure is said once, and once that it is over."""

from __future__ import annotations

import logging


class Outage:
    """`over` is what is said at the end, such as "the queues can be looked at again"."""

    def __init__(self, log: logging.Logger, over: str) -> None:
        self._log = log
        self._over = over
        self._lasts = False

    def failed(self, text: str, error: Exception) -> None:
        """A try failed: say so as a warning, `text` with a %s for the error, if the one before went well."""
        if not self._lasts:
            self._lasts = True
            self._log.warning(text, error)

    def went_well(self) -> None:
        """A try went well: say so if the one before failed."""
        if self._lasts:
            self._lasts = False
            self._log.info(self._over)
