"""`./build/NAME`: a function's build context as a folder, for container builders: the template, its runtime, the function."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from builder.ignore import always_ignored
from builder.templates import DOCKERFILE_LANGUAGE, PROJECT_FOLDER, InvalidTemplate, Templates, UnknownTemplate
from cli.build import assembled
from cli.errors import Misuse
from cli.stack import StackFunction

BUILD_FOLDER = Path("build")


def write_contexts(functions: Sequence[StackFunction], copies: tuple[str, ...]) -> int:
    """Write the context of each function that is built and say where. Return the exit code. Raises Misuse."""
    for function in functions:
        if function.builds:
            click.echo(f"Wrote {write_context_folder(function, copies)}/")
    return 0


def write_context_folder(function: StackFunction, copies: tuple[str, ...], into: Path = BUILD_FOLDER) -> Path:
    """Make `into`/NAME anew with the function's build context in it, and return it. Raises Misuse.

    For `lang: dockerfile` that is the function's folder. Otherwise it is the template's folder, with the runtime that the
    template's Dockerfile copies from it, and the function in the template's handler folder.
    """
    destination = into / function.name
    with assembled(function, copies) as handler:
        if handler.resolve().is_relative_to(destination.resolve()) or destination.resolve().is_relative_to(handler.resolve()):
            raise Misuse(f"{function.name}: its folder {function.handler} and {destination} lie in each other")
        if destination.exists():
            shutil.rmtree(destination)
        if function.lang == DOCKERFILE_LANGUAGE:
            if not (handler / "Dockerfile").is_file():
                raise Misuse(f"{function.name}: there is no {handler / 'Dockerfile'}, which lang: dockerfile builds")
            _copy(handler, destination)
            return destination
        templates = Templates(project=PROJECT_FOLDER)
        try:
            template = templates.find(function.lang)
            runtime = templates.runtime(template)
        except (UnknownTemplate, InvalidTemplate) as error:
            raise Misuse(f"{function.name}: {error}") from None
        _copy(template.folder, destination)
        if runtime is not None:
            _copy(runtime, destination / template.runtime)
        place = destination / template.handler_folder
        if place.exists():
            shutil.rmtree(place)
        _copy(handler, place)
    return destination


def _copy(source: Path, destination: Path) -> None:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if always_ignored(name) and not name.endswith("ignore")]

    shutil.copytree(source, destination, symlinks=True, ignore=ignored, dirs_exist_ok=True)
