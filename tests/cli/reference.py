"""Writes the commands' part of docs/cli.md from their real --help: `python -m tests.cli.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cli.main import faas

PAGE = Path(__file__).parent.parent.parent / "docs" / "cli.md"
BEGIN, END = "<!-- commands: made by python -m tests.cli.reference -->\n", "<!-- end of commands -->\n"
WIDTH = 100


def reference() -> str:
    """Return the help of every command as Markdown."""
    return "\n".join(_sections(faas, "faas", None))


def page() -> str:
    """Return docs/cli.md as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{reference()}\n{END}{rest.partition(END)[2]}"


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    place = {"info_name": name.rpartition(" ")[2], "parent": parent, "terminal_width": WIDTH}
    context = click.Context(command, **{**command.context_settings, **place})
    yield f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            loaded = command.get_command(context, child)
            assert loaded is not None
            yield from _sections(loaded, f"{name} {child}", context)


if __name__ == "__main__":
    PAGE.write_text(page())
