"""Writes the annotations' part of docs/events.md from what is parsed: `python -m tests.orchestration.events_reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestration.subscriptions import EVENTS_KEY, MEANS, TAKES
from orchestration.timers import KEYS

PAGE = Path(__file__).parent.parent.parent / "docs" / "events.md"
BEGIN = "<!-- annotations: made by python -m tests.orchestration.events_reference -->\n"
END = "<!-- end of annotations -->\n"


def page() -> str:
    """Return docs/events.md as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{chr(10).join(_lines())}\n\n{END}{rest.partition(END)[2]}"


def _lines() -> Iterator[str]:
    yield "| annotation | takes | means |"
    yield "|---|---|---|"
    for known in KEYS:
        yield f"| `{known.key}` | {known.takes} | {known.means} |"
    yield f"| `{EVENTS_KEY}` | {TAKES} | {MEANS} |"


if __name__ == "__main__":
    PAGE.write_text(page())
