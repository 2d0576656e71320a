"""The span that stands above what the present task does, where it is traced."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple


class Current(NamedTuple):
    """Ids in hex digits: 32 and 16."""

    trace: str
    span: str


current: Final[ContextVar[Current | None]] = ContextVar("current", default=None)
