"""Writes the settings' part of docs/autoscaling.md from what is parsed: `python -m tests.orchestration.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestration.scaling_labels import SPELLINGS

PAGE = Path(__file__).parent.parent.parent / "docs" / "autoscaling.md"
BEGIN, END = "<!-- settings: made by python -m tests.orchestration.reference -->\n", "<!-- end of settings -->\n"


def page() -> str:
    """Return docs/autoscaling.md as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{chr(10).join(_lines())}\n\n{END}{rest.partition(END)[2]}"


def _lines() -> Iterator[str]:
    yield "| label or annotation | takes | means |"
    yield "|---|---|---|"
    for spelling in SPELLINGS:
        takes, means = (text.replace("|", "\\|") for text in (spelling.takes, spelling.means))
        yield f"| `{spelling.key}` | {takes} | {means} |"


if __name__ == "__main__":
    PAGE.write_text(page())
