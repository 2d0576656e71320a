from __future__ import annotations

import json
import logging
import sys

from telemetry.current import Current, current
from telemetry.logs import ConsoleFormatter, JsonFormatter


def record(level: int, text: str, *, failed: bool = False) -> logging.LogRecord:
    exc_info = None
    if failed:
        try:
            raise ValueError("bad")
        except ValueError:
            exc_info = sys.exc_info()
    return logging.LogRecord("pinnace.edge", level, "x.py", 1, text, None, exc_info)


def test_console_lines_name_the_part_and_only_unusual_levels() -> None:
    assert ConsoleFormatter().format(record(logging.INFO, "listening")).endswith(" edge: listening")
    assert " WARNING edge: odd" in ConsoleFormatter().format(record(logging.WARNING, "odd"))


def test_json_lines_are_one_object_each() -> None:
    text = JsonFormatter().format(record(logging.ERROR, "two\nlines", failed=True))
    assert "\n" not in text
    entry = json.loads(text)
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "pinnace.edge", "two\nlines")
    assert "ValueError: bad" in entry["exception"]


def test_json_lines_of_what_is_traced_carry_the_trace() -> None:
    token = current.set(Current("a" * 32, "b" * 16))
    try:
        entry = json.loads(JsonFormatter().format(record(logging.INFO, "traced")))
    finally:
        current.reset(token)
    assert (entry["trace_id"], entry["span_id"]) == ("a" * 32, "b" * 16)
    assert "trace_id" not in json.loads(JsonFormatter().format(record(logging.INFO, "not traced")))
