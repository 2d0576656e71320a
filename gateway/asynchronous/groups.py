"""Statements that write many rows at once.

A thread gives up the interpreter for each step of a statement, and gets it back only when the event loop pauses: beside a busy
loop 200 rows, a statement each, took 1,400 us a row, and 100 us a row as one statement. So the values of a group go to SQLite
as two parameters, their bytes in one and their numbers as decimals of a fixed width in the other, and one statement takes them
apart, at 1.3 us a row and without the interpreter; `json_each` takes 3.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

DIGITS: Final = 16
TOGETHER: Final = 1000
"""Rows of one statement at most: with the longest bodies they are 64 MB."""

ROWS: Final = "WITH RECURSIVE r (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < :rows - 1)"


class Layout:
    """How a row of a group is laid out: its fields in order, each a number (`int`), a text (`str`) or `bytes`. A number takes
    DIGITS, what is longer two numbers: where it begins, counted from 1, and its length in bytes.

    `row` is the format of a row's numbers, `width` how many they are; `of` is what SQLite reads each field with.
    """

    def __init__(self, **fields: type) -> None:
        count = sum(1 if kind is int else 2 for kind in fields.values())
        self.width = count
        self.row = b"%16d" * count
        self.of: dict[str, str] = {}
        numbers = [
            f"CAST(substr(:numbers, i * {count * DIGITS} + {n * DIGITS + 1}, {DIGITS}) AS INTEGER)" for n in range(count)
        ]
        for name, kind in fields.items():
            first = numbers.pop(0)
            if kind is not int:
                first = f"substr(:bytes, {first}, {numbers.pop(0)})"
            self.of[name] = f"CAST({first} AS TEXT)" if kind is str else first

    def select(self, names: str) -> str:
        """Return the columns of a SELECT … FROM r that reads the named fields."""
        return ", ".join(f"{self.of[name]} AS {name}" for name in names.split(", "))


SEQS: Final = Layout(seq=int)


def seqs(numbers: Sequence[int]) -> bytes:
    """Return numbers as SEQS reads them."""
    return SEQS.row * len(numbers) % tuple(numbers)


def seqs_of(packed: bytes) -> list[int]:
    """Return what `seqs` was given."""
    return [int(packed[start : start + DIGITS]) for start in range(0, len(packed), DIGITS)]


def given(numbers: bytes, width: int, pieces: Sequence[bytes] = ()) -> Mapping[str, Any]:
    """Return the parameters of a statement about rows of `width` numbers each."""
    return {"rows": len(numbers) // (width * DIGITS), "numbers": numbers, "bytes": b"".join(pieces)}
