"""`faas template`: the languages that functions can be written in."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.tables import print_json, print_table


@click.group(short_help="Languages to write functions in.")
def template() -> None:
    """Languages to write functions in."""


@template.command("list", short_help="List the built-in templates.")
@json_option
def list_templates(as_json: bool) -> None:
    """List the built-in templates: what `faas new --lang` takes."""
    show_templates(as_json)


def show_templates(as_json: bool = False) -> None:
    """Print the built-in templates."""
    from builder.templates import Templates

    templates = Templates().list()
    if as_json:
        return print_json(
            [{"language": t.language, "description": t.description, "aliases": list(t.aliases)} for t in templates]
        )
    return print_table(("LANGUAGE", "DESCRIPTION"), [(t.language, t.description) for t in templates])
