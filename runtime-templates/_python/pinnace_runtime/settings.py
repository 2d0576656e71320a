"""What the platform tells a replica, read from the environment once."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_EXEC_TIMEOUT_S = 60.0
LONGEST_EXEC_TIMEOUT_S = 24 * 3600.0

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class InvalidSetting(ValueError):
    """An environment variable with a value that cannot be; the message names it and says what would be right."""


class Settings:
    """The replica's settings. `listen_fd` and `notify_fd` are inherited descriptors or None; `max_inflight` 0 is no limit."""

    def __init__(
        self,
        *,
        listen_fd: int | None = None,
        notify_fd: int | None = None,
        port: int = 8080,
        log_frames: bool = False,
        exec_timeout_s: float = DEFAULT_EXEC_TIMEOUT_S,
        max_inflight: int = 0,
        content_type: str = "",
    ) -> None:
        self.listen_fd = listen_fd
        self.notify_fd = notify_fd
        self.port = port
        self.log_frames = log_frames
        self.exec_timeout_s = exec_timeout_s
        self.max_inflight = max_inflight
        self.content_type = content_type


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`. Raises InvalidSetting."""
    listen_fd, notify_fd = environ.get("PINNACE_LISTEN_FD"), environ.get("PINNACE_NOTIFY_FD")
    timeout = environ.get("exec_timeout", "").strip()
    try:
        timeout_s = parse_duration_s(timeout) if timeout else DEFAULT_EXEC_TIMEOUT_S
    except ValueError:
        raise InvalidSetting(f"exec_timeout={timeout!r}: a duration such as 60s, 1m30s or 500ms") from None
    return Settings(
        listen_fd=_count("PINNACE_LISTEN_FD", listen_fd) if listen_fd else None,
        notify_fd=_count("PINNACE_NOTIFY_FD", notify_fd) if notify_fd else None,
        port=_count("PORT", environ.get("PORT") or "8080"),
        log_frames=environ.get("PINNACE_LOG_FRAMES") == "1",
        # 0 is "off" in OpenFaaS's watchdog; here every wait has a limit.
        exec_timeout_s=timeout_s or LONGEST_EXEC_TIMEOUT_S,
        max_inflight=_count("max_inflight", environ.get("max_inflight") or "0"),
        content_type=environ.get("content_type", "").strip(),
    )


def parse_duration_s(text: str) -> float:
    """Return seconds for a Go duration (`1m30s`, `500ms`) or a bare number of seconds. Raises ValueError."""
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        rest = rest[len(unit) :]
        if unit not in _UNITS_S:
            raise ValueError(text)
        total += float(number) * _UNITS_S[unit]
    if not text:
        raise ValueError(text)
    return total


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidSetting(f"{name}={text!r}: a whole number, 0 or more")
    return int(text)
