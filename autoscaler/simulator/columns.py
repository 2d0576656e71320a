"""Tables in CSV files, read row by row, with errors that name the line and the column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from autoscaler.simulator.trace import InvalidTrace


class Row:
    """One row; `line` is its place in the file. Fields are asked for by column name."""

    __slots__ = ("_columns", "_fields", "_path", "line")

    def __init__(self, path: Path, line: int, columns: dict[str, int], fields: list[str]) -> None:
        self._path, self.line, self._columns, self._fields = path, line, columns, fields

    def text(self, column: str) -> str:
        """Return what stands there. Raises InvalidTrace when it is empty."""
        text = self._fields[self._columns[column]].strip()
        if not text:
            raise self.wrong(column, "empty")
        return text

    def number(self, column: str) -> float:
        """Return a number that is at least 0. Raises InvalidTrace."""
        text = self._fields[self._columns[column]]
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not isfinite(number) or number < 0:
            raise self.wrong(column, f"{text[:40]!r} is not a number of at least 0")
        return number

    def counts(self, columns: Sequence[str]) -> list[int]:
        """Return whole numbers that are at least 0. Raises InvalidTrace."""
        found = []
        for column in columns:
            text = self._fields[self._columns[column]]
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise self.wrong(column, f"{text[:40]!r} is not a count of calls")
            found.append(int(text))
        return found

    def wrong(self, column: str, what: str) -> InvalidTrace:
        """Return the error that says what is wrong with this row's column."""
        return InvalidTrace(self._path, what, line=self.line, column=column)


class Table:
    """A CSV file with a first line of column names. Iterating reads it anew. Raises InvalidTrace."""

    def __init__(self, path: Path, needs: Sequence[str]) -> None:
        self.path = path
        self.columns: tuple[str, ...] = ()
        for _, fields in self._lines():
            self.columns = tuple(name.strip() for name in fields)
            break
        else:
            raise InvalidTrace(path, f"empty; its first line should name the columns {', '.join(needs)} …")
        for name in needs:
            if name not in self.columns:
                raise InvalidTrace(path, f"there is no such column; there are {_some(self.columns)}", line=1, column=name)

    def __iter__(self) -> Iterator[Row]:
        places = {name: i for i, name in enumerate(self.columns)}
        lines = self._lines()
        next(lines)
        for line, fields in lines:
            if not fields:
                continue
            if len(fields) != len(self.columns):
                what = f"{len(fields)} fields, but the first line names {len(self.columns)} columns"
                raise InvalidTrace(self.path, what, line=line)
            yield Row(self.path, line, places, fields)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, strict=True)
                for fields in reader:
                    yield reader.line_num, fields
        except OSError as error:
            raise InvalidTrace(self.path, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InvalidTrace(self.path, f"is no text: byte {error.start} is not UTF-8") from None
        except csv.Error as error:
            raise InvalidTrace(self.path, f"is not CSV: {error}", line=reader.line_num) from None


def _some(names: Sequence[str]) -> str:
    return ", ".join(name[:30] or "(empty)" for name in names[:8]) + (" …" if len(names) > 8 else "")
