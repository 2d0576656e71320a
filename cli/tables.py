"""How results look: tables for people, JSON for programs, and the few words both share."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TextIO

NARROWEST_COLUMN = 8
_GAP = "  "
_COLORS = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}


def print_json(value: object) -> None:
    """Print `value` for programs: indented, with the wire's keys in the wire's order."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], *, shrink: int = -1) -> None:
    """Print aligned columns without borders, numbers to the right.

    On a terminal that is too narrow the column `shrink` (counted from 0, negative from the end) is cut with `…`.
    """
    for line in table_lines(head, rows, shrink=shrink, width=terminal_width(sys.stdout)):
        print(line)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[object]], *, shrink: int = -1, width: int = 0) -> list[str]:
    """Return the lines of a table; `width` is the terminal's, 0 when lines may be as long as they need."""
    cells = [[clean(text) for text in head], *([clean(cell) for cell in row] for row in rows)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    widths = [max(_width(line[i]) for line in cells) for i in range(len(head))]
    over = sum(widths) + len(_GAP) * (len(head) - 1) - width
    if width and over > 0:
        widths[shrink] = max(min(NARROWEST_COLUMN, widths[shrink]), widths[shrink] - over)
    return [
        _GAP.join(_pad(_cut(text, widths[i]), widths[i], right[i]) for i, text in enumerate(line)).rstrip() for line in cells
    ]


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print `Name:  value` lines; a list goes below its name one item a line, what is empty is left out."""
    shown = [(name, value) for name, value in fields if value not in (None, "", [], ())]
    width = max((_width(name) for name, _ in shown), default=0) + 3
    for name, value in shown:
        lines = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        for i, line in enumerate(lines):
            print((f"{name}:" if i == 0 else "").ljust(width) + line)


def color(text: str, name: str, stream: TextIO | None = None) -> str:
    """Return `text` coloured where the stream is a terminal and neither NO_COLOR nor TERM=dumb is set."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLORS[name]}m{text}\x1b[0m"


def terminal_width(stream: TextIO) -> int:
    """Return how wide lines on `stream` may be, 0 for no limit (a file, a pipe)."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def age(moment: object, now: float | None = None) -> str:
    """Return how long ago `moment` (RFC 3339 text or Unix seconds) was: `12s`, `5m`, `3h`, `8d`; empty when unknown."""
    at = moment if isinstance(moment, int | float) else unix_seconds(moment)
    if at is None or at <= 0:
        return ""
    seconds = max(0, int((time.time() if now is None else now) - at))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size or (seconds >= size and unit != "m"):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def unix_seconds(text: object) -> float | None:
    """Return an RFC 3339 time as Unix seconds, None for what is none (Go's zero time, the year 1, included)."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    head, dot, rest = text.partition(".")
    if dot:  # nanoseconds are more digits than a datetime takes
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def seconds_text(seconds: float) -> str:
    """Return a measured time as people write it: `0.8 s`, `12 s`, `2 min 5 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def counted(n: int, noun: str) -> str:
    """Return `1 replica`, `3 replicas`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def pairs(mapping: Any) -> list[str]:
    """Return a map of labels or the like as sorted `key=value` lines."""
    return [f"{key}={value}" for key, value in sorted(mapping.items())] if isinstance(mapping, dict) else []


def clean(cell: object) -> str:
    """One line, with nothing in it that a terminal would obey."""
    text = "" if cell is None else str(cell)
    return "".join(c if c.isprintable() else " " for c in text)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"
