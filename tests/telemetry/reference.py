"""Writes the tables of docs/telemetry.md from what is served: `python -m tests.telemetry.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from telemetry.metrics import ALL

PAGE: Final = Path(__file__).parents[2] / "docs" / "telemetry.md"
BEGIN: Final = "<!-- metrics: made by python -m tests.telemetry.reference -->\n"
END: Final = "<!-- end of metrics -->\n"


def page() -> str:
    """Return docs/telemetry.md as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{chr(10).join(_lines())}\n\n{END}{rest.partition(END)[2]}"


def _lines() -> Iterator[str]:
    yield "| metric | type | labels | what | name is |"
    yield "|---|---|---|---|---|"
    for metric in ALL:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} | {metric.origin}'s |"


if __name__ == "__main__":
    PAGE.write_text(page())
