"""Rows that go to SQLite together: many values as two parameters.

A thread gives up the interpreter for each step of a statement, and gets it back only when the event loop pauses: beside a busy
loop 200 rows, a statement each, took 1,400 us a row, and 100 us a row as one statement. So the values of a group go to SQLite
as two parameters, their bytes in one and their numbers as decimals of a fixed width in the other, and a statement takes them
apart, at 1.3 us a row and without the interpreter; `json_each` takes 3.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

DIGITS: Final = 16
"""Of a number: enough for microseconds until the year 2286."""
TOGETHER: Final = 1000
"""Rows of one of these statements at most."""

ROWS: Final = "WITH RECURSIVE r (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < :rows - 1)"


class Layout:
    """How a row of a group is laid out: its fields in order, each a number (`int`), a text (`str`) or `bytes`. A number takes
    DIGITS, what is longer two numbers: where it begins, counted from 1, and its length in bytes.

    `row` is the format of a row's numbers; `of` is what SQLite reads each field of row `i` with, given the parameters (or
    whatever begins with `source`) `numbers` and `bytes`.
    """

    def __init__(self, source: str = ":", /, **fields: type) -> None:
        width = sum(1 if kind is int else 2 for kind in fields.values())
        self.row = b"%16d" * width
        self.of: dict[str, str] = {}
        numbers = iter(f"substr({source}numbers, i * {width * DIGITS} + {n * DIGITS + 1}, {DIGITS})" for n in range(width))
        for name, kind in fields.items():
            if kind is int:
                self.of[name] = f"CAST({next(numbers)} AS INTEGER)"
            else:
                piece = f"substr({source}bytes, {next(numbers)}, {next(numbers)})"
                self.of[name] = piece if kind is bytes else f"CAST({piece} AS TEXT)"

    def select(self, names: str) -> str:
        """Return the columns of a SELECT that reads the named fields."""
        return ", ".join(f"{self.of[name]} AS {name}" for name in names.split(", "))


class Group:
    """Rows of a layout that are gathered: their numbers, their bytes, and where the next bytes begin."""

    __slots__ = ("at", "numbers", "pieces")

    def __init__(self) -> None:
        self.numbers: list[bytes] = []
        self.pieces: list[bytes] = []
        self.at = 1

    def put(self, piece: bytes) -> tuple[int, int]:
        """Take bytes of a row; return where they begin, and how many they are."""
        at, length = self.at, len(piece)
        self.pieces.append(piece)
        self.at = at + length
        return at, length

    def clear(self) -> None:
        """Be empty."""
        self.numbers.clear()
        self.pieces.clear()
        self.at = 1

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a statement about these rows."""
        return {"rows": len(self.numbers), "numbers": b"".join(self.numbers), "bytes": self.joined()}

    def joined(self) -> bytes:
        """Return the bytes of all rows; something also where there are none, since a piece of nothing is NULL for SQLite."""
        return b"".join(self.pieces) or b"\0"


SEQS: Final = Layout(seq=int)


def seqs(numbers: Sequence[int]) -> bytes:
    """Return numbers as SEQS reads them."""
    return SEQS.row * len(numbers) % tuple(numbers)


def seqs_of(packed: bytes) -> list[int]:
    """Return what `seqs` was given."""
    return [int(packed[start : start + DIGITS]) for start in range(0, len(packed), DIGITS)]


def these(packed: bytes) -> dict[str, Any]:
    """Return the parameters of a statement about numbers that SEQS reads."""
    return {"rows": len(packed) // DIGITS, "numbers": packed}
