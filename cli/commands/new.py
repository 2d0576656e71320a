"""`faas new`: a folder with a handler, and its place in stack.yaml."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from cli.commands.template import show_templates
from cli.errors import Misuse
from cli.options import STACK_FILES, find_stack_file
from cli.stack_edit import added_function, new_stack


@click.command(short_help="Make a function from a template.")
@click.argument("name", metavar="[NAME]", default="")
@click.option("--lang", metavar="LANG", default="", help="The language; --list shows them.")
@click.option("--list", "show_list", is_flag=True, help="List the languages.")
@click.option("--handler", metavar="FOLDER", default="", help="The folder to make. Default: NAME.")
@click.option("--yaml", "--append", "-f", "-a", "file", metavar="FILE", default="", help="The stack file. Default: stack.yaml.")
@click.option(
    "--prefix", "-p", metavar="PREFIX", default="", envvar="OPENFAAS_PREFIX", help="Registry and owner before the image's name."
)
@click.option("--quiet", "-q", is_flag=True, help="Do not say what comes next.")
@click.option("--gateway", "-g", metavar="URL", default="", help="Write this gateway into a new stack file.")
def new(name: str, lang: str, show_list: bool, handler: str, file: str, prefix: str, quiet: bool, gateway: str) -> None:
    """Make the folder NAME with a handler in it, and add the function to stack.yaml, which is made when it is missing.

    Nothing that exists is overwritten, and nothing is written when the name cannot be a function's.
    """
    from builder.templates import PROJECT_FOLDER, FolderExists, InvalidTemplate, Templates, UnknownTemplate
    from orchestration.names import InvalidName, check_function_name

    if show_list:
        return show_templates()
    try:
        check_function_name(name)
        templates = Templates(project=PROJECT_FOLDER)
        if not lang:
            raise Misuse(
                f"say the language: faas new {name} --lang LANG, one of {', '.join(t.language for t in templates.list())}"
            )
        template = templates.find(lang)
    except InvalidName as error:
        raise Misuse("say a name: faas new NAME --lang LANG" if not name else str(error)) from None
    except (UnknownTemplate, InvalidTemplate) as error:
        raise Misuse(str(error)) from None
    folder = Path(handler or name)
    path = Path(file) if file else find_stack_file() or Path("stack.yaml")
    image = f"{prefix.rstrip('/')}/{name}:latest" if prefix else f"{name}:latest"
    before = path.read_text(encoding="utf-8") if path.exists() else new_stack(gateway)
    after = added_function(before, str(path), name, lang=lang, handler=_spelt(folder), image=image)
    try:
        templates.new(template.language, folder)
    except FolderExists:
        raise Misuse(f"{folder} is there already; nothing was changed") from None
    try:
        path.write_text(after, encoding="utf-8")
    except OSError:
        shutil.rmtree(folder)
        raise
    click.echo(f"Made {folder}/ and added {name} to {path}.")
    if not quiet:
        if template.welcome_message.strip():
            click.echo(f"\n{template.welcome_message.strip()}\n")
        here = path.parent == Path() and path.name in STACK_FILES
        step = "Deploy it: faas deploy" if template.runs_here else "Build and deploy it: faas up"
        click.echo(step + ("" if here else f" -f {path}"))
    return None


def _spelt(folder: Path) -> str:
    """The way stack files write folders: `./hello`."""
    return str(folder) if folder.is_absolute() or folder.parts[:1] == ("..",) else f"./{folder.as_posix()}"
