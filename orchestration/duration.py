"""Durations as OpenFaaS and Knative users write them: `1m30s`, `500ms`, `15m`, or a bare number of seconds."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class InvalidDuration(ValueError):
    """Not a duration; the message names the text and gives examples."""


def parse_duration_s(text: str) -> float:
    """Return seconds for a Go duration (`1h2m`, `300ms`) or a bare number (seconds). Raises InvalidDuration."""
    text = text.strip()
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else _go_duration_s(text)
    except (ValueError, OverflowError):
        raise InvalidDuration(f"{text!r} is not a duration such as 30s, 1m30s, 500ms or 15m") from None
    if seconds == float("inf"):
        raise InvalidDuration(f"{text[:40]!r} is longer than any duration")
    return seconds


def _go_duration_s(text: str) -> float:
    end, total = 0, 0.0
    for part in _PART.finditer(text):
        if part.start() != end:
            raise ValueError(text)
        total += float(part[1]) * _SECONDS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(text)
    return total


def format_duration(seconds: float) -> str:
    """Return `seconds` (≥ 0) the short way people write it: 90 → `1m30s`, 0.25 → `250ms`, 900 → `15m`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if n]
    return "".join(parts) or "0s"
