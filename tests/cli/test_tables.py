from __future__ import annotations

import io

import pytest

from cli.tables import age, color, counted, pairs, print_fields, seconds_text, table_lines, unix_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_line_up_and_numbers_go_to_the_right() -> None:
    assert table_lines(("NAME", "CALLS", "IMAGE"), [("a", 5, "x"), ("long-name", 1200, None)]) == [
        "NAME       CALLS  IMAGE",
        "a              5  x",
        "long-name   1200",
    ]


def test_wide_letters_count_as_two() -> None:
    assert table_lines(("A", "B"), [("漢字", "x"), ("e\u0301", "y")])[1:] == ["漢字  x", "e\u0301     y"]


def test_a_narrow_terminal_cuts_one_column() -> None:
    lines = table_lines(("NAME", "IMAGE"), [("hello", "registry.example.com/me/hello:latest")], width=24)
    assert lines[1] == "hello  registry.example…"
    assert all(len(line) <= 24 for line in lines)
    assert "registry.example.com" in table_lines(("N", "IMAGE"), [("h", "registry.example.com")], width=0)[1]


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert table_lines(("A",), [("\x1b[31mred\r\nx",)])[1] == " [31mred  x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (119, "119s"),
        (120, "2m"),
        (3599, "59m"),
        (3600, "1h"),
        (86399, "23h"),
        (86400, "1d"),
        (900000, "10d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert age(1_000_000.0, now=1_000_000.0 + seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10.5+01:00", 10.5),
        ("1970-01-01T00:00:10.123456789Z", 10.123456),
        ("0001-01-01T00:00:00Z", None),
        ("soon", None),
        (None, None),
        (3, None),
    ],
)
def test_times_of_the_wire(text: object, seconds: float | None) -> None:
    assert unix_seconds(text) == seconds


def test_an_unknown_age_is_empty() -> None:
    assert age(None) == age("0001-01-01T00:00:00Z") == age(0) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0.84, "0.8 s"), (12.4, "12 s"), (125, "2 min 5 s")])
def test_measured_times(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert color("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert color("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert color("x", "red", Terminal()) == "x"


def test_fields_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("Name", "hello"), ("Image", None), ("Labels", ["a=1", "b=2"]), ("Calls", 0), ("Notes", [])])
    assert capsys.readouterr().out == "Name:    hello\nLabels:  a=1\n         b=2\nCalls:   0\n"


def test_words() -> None:
    assert (counted(1, "replica"), counted(0, "replica")) == ("1 replica", "0 replicas")
    assert pairs({"b": 2, "a": "x"}) == ["a=x", "b=2"]
    assert pairs(None) == []
