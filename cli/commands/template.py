"""`faas template`: the languages that functions can be written in, built in or pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.errors import CliError, Misuse
from cli.options import find_stack_file, json_option
from cli.tables import print_fields, print_json, print_table

if TYPE_CHECKING:
    from builder.template_pull import Pulled, Source
    from builder.template_store import StoreEntry

overwrite_option = click.option(
    "--overwrite/--no-overwrite", default=True, help="Replace templates that are there already. Default: replace."
)
store_option = click.option(
    "--url",
    "-u",
    metavar="URL",
    default="",
    envvar="OPENFAAS_TEMPLATE_STORE_URL",
    help="The store: a URL or a file of JSON; else $OPENFAAS_TEMPLATE_STORE_URL, else the one that comes along.",
)


@click.group(short_help="Languages to write functions in.")
def template() -> None:
    """Languages to write functions in."""


@template.command("list", short_help="List the templates that are here.")
@json_option
def list_templates(as_json: bool) -> None:
    """List the templates that are here, built in or pulled into ./template: what `faas new --lang` takes."""
    show_templates(as_json)


def show_templates(as_json: bool = False) -> None:
    """Print the built-in templates and the project's."""
    from builder.template_pull import read_meta
    from builder.templates import PROJECT_FOLDER, InvalidTemplate, Templates

    try:
        templates = Templates(project=PROJECT_FOLDER).list()
    except InvalidTemplate as error:
        raise Misuse(str(error)) from None
    rows = []
    for t in templates:
        meta = None if t.built_in else read_meta(t)
        origin = "built in" if t.built_in else f"{meta.repository} {meta.sha[:12]}".rstrip() if meta else "./template"
        runs = "process" if t.runs_here else "image"
        rows.append((t, runs, origin))
    if as_json:
        return print_json(
            [
                {"language": t.language, "description": t.description, "aliases": list(t.aliases), "runs": runs, "from": origin}
                for t, runs, origin in rows
            ]
        )
    table = [(t.language, runs, t.description or "", origin) for t, runs, origin in rows]
    return print_table(("LANGUAGE", "RUNS AS", "DESCRIPTION", "FROM"), table, shrink=2)


@template.command("pull", short_help="Pull templates from a git repository or a folder.")
@click.argument("source", metavar="[URL[#REF]|FOLDER|stack]", default="", envvar="OPENFAAS_TEMPLATE_URL")
@overwrite_option
def pull_templates(source: str, overwrite: bool) -> None:
    """Pull the templates of a git repository, or of a folder, into ./template. They lie in its folder template/.

    \b
    faas template pull https://HOST/OWNER/NAME            the newest
    faas template pull https://HOST/OWNER/NAME#v1.2       a branch or a tag, as NAME@v1.2
    faas template pull https://HOST/OWNER/NAME#sha-HEX    a commit
    faas template pull stack                              those that stack.yaml lists

    The commit is written beside each, in meta.json.
    """
    if source == "stack":
        return _pull_stack(overwrite)
    if not source:
        raise Misuse("say from where: faas template pull URL[#REF]; faas template store list shows some")
    return _pull(source, "", overwrite)


@template.group("store", short_help="A list of templates that can be pulled.")
def store() -> None:
    """A list of templates that can be pulled."""


@store.command("list", short_help="List the templates of the store.")
@store_option
@json_option
def list_store(url: str, as_json: bool) -> None:
    """List the templates of the store."""
    entries = _entries(url)
    if as_json:
        return print_json(
            [{"template": e.template, "language": e.language, "source": e.source, "repo": e.repo} for e in entries]
        )
    rows = [(e.template, e.language, e.source, e.description) for e in entries]
    return print_table(("NAME", "LANGUAGE", "SOURCE", "DESCRIPTION"), rows)


@store.command("describe", short_help="Show one template of the store.")
@click.argument("name", metavar="NAME")
@store_option
def describe_store(name: str, url: str) -> None:
    """Show one template of the store; SOURCE/NAME where several have that name."""
    entry = _entry(name, url)
    print_fields(
        [
            ("Name", entry.template),
            ("Language", entry.language),
            ("Platform", entry.platform),
            ("Source", entry.source),
            ("Description", entry.description),
            ("Repository", entry.repo),
            ("Official", entry.official),
        ]
    )


@store.command("pull", short_help="Pull one template of the store.")
@click.argument("name", metavar="NAME[@REF]")
@store_option
@overwrite_option
def pull_store(name: str, url: str, overwrite: bool) -> None:
    """Pull one template of the store into ./template, at a branch, tag or commit (@sha-HEX) if one is given."""
    _pull_named(name, url, overwrite)


def _pull_stack(overwrite: bool) -> None:
    from cli.stack import read_stack

    path = find_stack_file()
    if path is None:
        raise Misuse("there is no stack.yaml here, whose configuration.templates would be pulled")
    listed = read_stack(path).templates
    if not listed:
        raise Misuse(f"{path} lists no templates: configuration.templates is empty")
    for entry in listed:
        if entry.source:
            _pull(entry.source, entry.name.partition("@")[0], overwrite)
        else:
            _pull_named(entry.name, "", overwrite)


def _pull_named(name: str, url: str, overwrite: bool) -> None:
    bare, at, ref = name.partition("@")
    entry = _entry(bare, url)
    _pull(entry.repo.partition("#")[0] + f"#{ref}" if at else entry.repo, entry.template, overwrite)


def _pull(source: str, only: str, overwrite: bool) -> None:
    from builder.template_pull import PullFailed, parse_source, pull
    from builder.templates import PROJECT_FOLDER, InvalidTemplate

    try:
        parsed = parse_source(source)
    except PullFailed as error:
        raise Misuse(str(error)) from None
    try:
        _tell(parsed, pull(parsed, PROJECT_FOLDER, only=only, overwrite=overwrite))
    except (PullFailed, InvalidTemplate) as error:
        raise CliError(str(error)) from None


def _tell(source: Source, pulled: Pulled) -> None:
    from builder.templates import Templates, UnknownTemplate

    at = f" at {pulled.commit[:12]}" if pulled.commit else ""
    if pulled.templates:
        click.echo(f"Pulled {', '.join(t.language for t in pulled.templates)} from {source.shown}{at}.")
    if pulled.kept:
        click.echo(f"Kept {', '.join(pulled.kept)}, which is there already.")
    images, served = [], []
    for t in pulled.templates:
        if not t.runs_here:
            try:
                Templates().find(t.language)
                served.append(t.language)
            except UnknownTemplate:
                images.append(t.language)
    if served:
        click.echo(f"Note: {', '.join(served)}: functions are built with the built-in template of that language.", err=True)
    if images:
        verb = "has" if len(images) == 1 else "have"
        click.echo(
            f"Note: {', '.join(images)} {verb} a Dockerfile and so make container images, which need a cluster: "
            "faas new works, faas up --shrinkwrap writes the folder to build the image in.",
            err=True,
        )


def _entries(url: str) -> list[StoreEntry]:
    from builder.template_store import StoreFailed, read_store

    try:
        return read_store(url)
    except StoreFailed as error:
        raise CliError(str(error)) from None


def _entry(name: str, url: str) -> StoreEntry:
    from builder.template_store import StoreFailed, find_entry

    try:
        return find_entry(_entries(url), name)
    except StoreFailed as error:
        raise Misuse(str(error)) from None
