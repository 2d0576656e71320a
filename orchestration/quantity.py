"""Kubernetes resource quantities (`128Mi`, `500m`), as `limits` and `requests` carry them.

Source: Kubernetes API conventions, "Resource quantities": a decimal number with a decimal (k, M, G …), binary (Ki, Mi …)
or exponent suffix.
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:(m|[kMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?")
_SCALE = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{s: Decimal(1000) ** i for i, s in enumerate("kMGTPE", 1)},
    **{s + "i": Decimal(1024) ** i for i, s in enumerate("KMGTPE", 1)},
}


class InvalidQuantity(ValueError):
    """Not a Kubernetes quantity; the message names the text and gives examples."""


def parse_quantity(text: str) -> Decimal:
    """Return the number `text` stands for: `"128Mi"` → 134217728, `"250m"` → 0.25. Raises InvalidQuantity."""
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        raise InvalidQuantity(f"{text!r} is not a quantity such as 128Mi, 1.5Gi, 500m or 2")
    number, suffix, exponent = match.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SCALE[suffix or ""])


def memory_bytes(text: str) -> int:
    """Return a memory quantity in bytes, rounded up. Raises InvalidQuantity, also for less than 1 MiB."""
    size = parse_quantity(text)
    if size < 1024 * 1024:
        raise InvalidQuantity(f"memory {text!r} is {int(size)} bytes; the least is 1Mi (did you mean {text.rstrip('m')}Mi?)")
    return int(size.to_integral_value(rounding="ROUND_CEILING"))


def cpu_cores(text: str) -> float:
    """Return a CPU quantity in cores: `"100m"` → 0.1. Raises InvalidQuantity, also for zero."""
    cores = float(parse_quantity(text))
    if cores <= 0:
        raise InvalidQuantity(f"cpu {text!r} must be more than 0, such as 500m or 2")
    return cores
