from __future__ import annotations

import pytest
from pinnace_runtime.settings import (
    DEFAULT_EXEC_TIMEOUT_S,
    LONGEST_EXEC_TIMEOUT_S,
    InvalidSetting,
    parse_duration_s,
    read_settings,
)


def test_without_a_platform_the_defaults_hold() -> None:
    settings = read_settings({})
    assert (settings.listen_fd, settings.notify_fd, settings.port) == (None, None, 8080)
    assert (settings.exec_timeout_s, settings.max_inflight, settings.log_frames) == (DEFAULT_EXEC_TIMEOUT_S, 0, False)


def test_what_the_platform_gives_is_read() -> None:
    settings = read_settings(
        {
            "PINNACE_LISTEN_FD": "3",
            "PINNACE_NOTIFY_FD": "4",
            "PINNACE_LOG_FRAMES": "1",
            "exec_timeout": "90s",
            "max_inflight": "7",
        }
    )
    assert (settings.listen_fd, settings.notify_fd, settings.log_frames) == (3, 4, True)
    assert (settings.exec_timeout_s, settings.max_inflight) == (90, 7)


def test_a_timeout_of_zero_is_the_longest() -> None:
    assert read_settings({"exec_timeout": "0s"}).exec_timeout_s == LONGEST_EXEC_TIMEOUT_S


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("1.5", 1.5), ("60s", 60), ("1m30s", 90), ("250ms", 0.25), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "ten", "-5s", "1..2s", "5 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_duration_s(text)


@pytest.mark.parametrize("name", ["exec_timeout", "max_inflight", "PORT", "PINNACE_LISTEN_FD"])
def test_a_value_that_cannot_be_is_named(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{name}='many'"):
        read_settings({name: "many"})
