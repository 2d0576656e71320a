from __future__ import annotations

from decimal import Decimal

import pytest

from orchestration.quantity import InvalidQuantity, cpu_cores, memory_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("128Mi", 128 << 20), ("1.5Gi", 3 << 29), ("100m", "0.1"), ("2k", 2000), ("1e3", 1000), ("5E", 5 * 10**18)],
)
def test_quantities(text: str, number: int | str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Mi", "1 Mi", "1mi", "-1", "1.2.3", "0x10", "1e999", "NaN", "1KI"])
def test_not_quantities(text: str) -> None:
    with pytest.raises(InvalidQuantity, match="not a quantity"):
        parse_quantity(text)


def test_a_memory_limit_of_a_few_bytes_is_a_slip() -> None:
    with pytest.raises(InvalidQuantity, match="did you mean 128Mi"):
        memory_bytes("128m")
    with pytest.raises(InvalidQuantity, match="did you mean 128Mi"):
        memory_bytes("128")
    assert memory_bytes("1Mi") == 1 << 20


def test_cpu() -> None:
    assert cpu_cores("250m") == 0.25
    with pytest.raises(InvalidQuantity, match="more than 0"):
        cpu_cores("0")
