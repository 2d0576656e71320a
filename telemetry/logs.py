"""The platform's own log: one line a record on stderr, for people (`console`) or for programs (`json`)."""

from __future__ import annotations

import datetime
import json
import logging
import sys

from telemetry.current import current


class ConsoleFormatter(logging.Formatter):
    """`12:30:05 WARNING autoscaler  text`: the level only where it is not INFO."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        text = f"{clock} {level}{record.name.removeprefix('pinnace.')}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and where there is one `exception`; in what
    is traced `trace_id` and `span_id`, as in OpenTelemetry's data model of logs."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (place := current.get()) is not None:
            entry |= {"trace_id": place.trace, "span_id": place.span}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(style: str = "console", level: int = logging.INFO) -> None:
    """Send all logging of this process to stderr in `style` (`console` or `json`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("pinnace").setLevel(level)
