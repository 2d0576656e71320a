"""`faas local-run`: one function in the foreground, without a gateway."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from cli.errors import CliError, Misuse
from cli.options import name_values
from cli.progress import Progress
from cli.selection import Asked, select
from cli.stack import StackFunction
from cli.watch import Watch

if TYPE_CHECKING:
    from cli.local import Ready


@click.command("local-run", short_help="Run one function here, without a gateway.")
@click.argument("name", metavar="[NAME]", default="")
@click.option("--yaml", "-f", "file", metavar="FILE", default="", help="The stack file. Default: stack.yaml, stack.yml.")
@click.option(
    "--port", "-p", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The port; 0 takes a free one."
)
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="An environment variable; wins over the stack file.")
@click.option("--lang", metavar="LANG", default="", help="The language; else the stack file's, else guessed from the handler.")
@click.option("--watch", is_flag=True, help="Build and start it again whenever one of its files is saved.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the build writes.")
def local_run(name: str, file: str, port: int, env: tuple[str, ...], lang: str, watch: bool, verbose: bool) -> int:
    """Build one function of stack.yaml, or a folder, and run it in the foreground on 127.0.0.1, without a gateway.

    It gets its environment, and its secrets from files in ./.secrets. Limits, users of their own and scaling are the
    platform's and do not hold here. Ctrl-C ends it.
    """
    from cli.local import build_here, running

    function, copies = _chosen(Asked(name, file, lang=lang))
    function = replace(function, environment={**function.environment, **name_values(env, "--env")})
    signal.signal(signal.SIGTERM, _interrupt)

    def run(until: Callable[[Ready], None]) -> None:
        with Progress() as progress:
            progress.stage(function.name, "building")

            def told(line: str) -> None:
                if verbose or line.startswith("warning: "):
                    progress.say(f"{function.name} | {line}")

            bundle, store = build_here(function, copies, told)
            progress.done(function.name)
        with running(function, bundle, store, port=port) as ready:
            click.echo(f"{function.name} answers at {ready.url} (Ctrl-C ends it)", err=True)
            until(ready)

    try:
        if watch:
            _run_watched(function, copies, run)
        else:
            run(lambda ready: _ended(function, ready))
    except KeyboardInterrupt:
        return 0
    return 0


def _ended(function: StackFunction, ready: Ready) -> None:
    raise CliError(f"{function.name}: it ended with code {ready.process.wait()}")


def _run_watched(function: StackFunction, copies: tuple[str, ...], run: Callable[[Callable[[Ready], None]], None]) -> None:
    """Run it until a file changes, and again, for ever. What goes wrong is told, and waits for a change too."""
    assert function.handler is not None
    files = [function.handler, *map(Path, copies)]
    running: list[Ready] = []

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if running and running[0].process.poll() is not None:
            click.echo(f"Error: {function.name}: it ended with code {running.pop().process.returncode}", err=True)

    seen = Watch({function.name: files}, sleep=sleep)

    def until_changed(ready: Ready | None = None) -> None:
        running[:] = [ready] if ready else []
        next(seen.changes())
        running.clear()
        click.echo("Changed: starting it again.", err=True)

    while True:
        try:
            run(until_changed)
        except (CliError, OSError) as error:
            click.echo(f"Error: {error}", err=True)
            until_changed()


def _chosen(asked: Asked) -> tuple[StackFunction, tuple[str, ...]]:
    selection = select(asked)
    if len(selection.functions) != 1:
        raise Misuse(f"say which: faas local-run NAME, one of {', '.join(f.name for f in selection.functions)}")
    function = selection.functions[0]
    if function.handler is None:
        raise Misuse(f"{function.name} is an image; local-run runs functions that it builds")
    return function, selection.copies


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
