"""Our own record of calls: one line for each, `START DURATION FUNCTION [TRIGGER]`.

START is Unix seconds (or seconds from anywhere), DURATION seconds, both with as many decimals as there are; lines may come in
any order; empty ones and those that begin with `#` say nothing. Any access log becomes one with a line of awk.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Final

from autoscaler.simulator.trace import InvalidTrace, Listing, Trace

UNIX_TIMES_FROM: Final = 1e9
"""Larger times are dates (from 2001 on); smaller ones count from somewhere else."""
FIELDS: Final = ("START", "DURATION", "FUNCTION", "TRIGGER")


def read(path: Path) -> Trace:
    """Return the trace in the file. Raises InvalidTrace."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return parse(path, file)
    except OSError as error:
        raise InvalidTrace(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidTrace(path, f"is no text: byte {error.start} is not UTF-8") from None


def parse(path: Path, lines: Iterable[str]) -> Trace:
    """Return the trace in `lines`; `path` is for errors. Raises InvalidTrace."""
    calls = Listing(path)
    dated = False
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if not 3 <= len(fields) <= 4:
            raise InvalidTrace(path, f"{len(fields)} fields; a call is START DURATION FUNCTION [TRIGGER]", line=number)
        start, runs_s = (_seconds(path, number, name, fields[i]) for i, name in enumerate(FIELDS[:2]))
        dated = dated or start >= UNIX_TIMES_FROM
        calls.add(fields[2], start, runs_s, fields[3] if len(fields) == 4 else "")
    return calls.trace(f"calls in {path.name}", dated=dated)


def _seconds(path: Path, line: int, column: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not isfinite(seconds) or seconds < 0:
        raise InvalidTrace(path, f"{text[:40]!r} is not a number of seconds", line=line, column=column)
    return seconds
