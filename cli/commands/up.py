"""`faas up`: `faas deploy`, and again whenever a file is saved with `--watch`; or only a part of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cli.batch import Plan, deploy_all, make_plan
from cli.deploy_flags import DeployFlags, deploy_options
from cli.errors import CliError
from cli.options import find_stack_file
from cli.tables import counted
from cli.watch import Watch

STACK = ""
"""The group of files that concern every function: the stack file and what it copies into each."""

_MOST_NAMED = 3


@click.command(short_help="Build and deploy functions, again at each save with --watch.")
@click.argument("path", metavar="[PATH]", default="")
@click.option("--watch", is_flag=True, help="Deploy again whenever a file of a function is saved. Ctrl-C ends it.")
@click.option("--shrinkwrap", is_flag=True, help="Only write each function's build context to ./build/NAME.")
@click.option("--skip-deploy", is_flag=True, help="Only test and build.")
@click.option("--skip-push", is_flag=True, help="Do not push images that are built here for a gateway that runs images.")
@deploy_options
def up(path: str, watch: bool, shrinkwrap: bool, skip_deploy: bool, skip_push: bool, **values: Any) -> int:
    """Test, build and deploy functions and wait until they answer, as faas deploy does.

    A function with a Dockerfile becomes an image first, where the gateway runs images: built here by buildah, podman,
    docker buildx or BuildKit, whichever there is, and pushed. With --watch a function is deployed again whenever one of its
    files is saved; an error is shown and the watch goes on.
    """
    flags = DeployFlags.of(values)
    plan = replace(make_plan(path, flags, deploys=not skip_deploy), builds_images=True, pushes=not skip_push)
    if shrinkwrap:
        from cli.shrinkwrap import write_contexts

        return write_contexts(plan.functions, plan.selection.copies)
    if not watch:
        return deploy_all(plan)
    try:
        _watch(path, plan)
    except KeyboardInterrupt:
        click.echo("\nNo longer watching; what is deployed stays.", err=True)
    return 0


def _watch(path: str, plan: Plan) -> None:
    groups = _groups(plan)
    seen = Watch(groups)
    _deploy(plan)
    while True:
        names = counted(len(plan.functions), "function")
        click.echo(f"Watching {names} for changes; Ctrl-C ends it.", err=True)
        changed = next(seen.changes())
        click.echo(f"Changed: {_named([file for files in changed.values() for file in files])}", err=True)
        try:
            fresh = replace(make_plan(path, plan.flags, deploys=plan.deploys), builds_images=True, pushes=plan.pushes)
        except (CliError, OSError) as error:
            click.echo(f"Error: {error}", err=True)
            continue
        if (fresh_groups := _groups(fresh)) != groups:  # other functions than before: watch those
            groups, seen = fresh_groups, Watch(fresh_groups)
        plan = fresh
        if STACK in changed:
            _deploy(plan)
        else:
            _deploy(replace(plan, functions=tuple(f for f in plan.functions if f.name in changed)))


def _deploy(plan: Plan) -> None:
    """Deploy; what goes wrong is told and does not end the watch."""
    try:
        deploy_all(plan)
    except (CliError, OSError) as error:
        click.echo(f"Error: {error}", err=True)


def _groups(plan: Plan) -> dict[str, list[Path]]:
    stack = Path(plan.flags.file) if plan.flags.file else find_stack_file()
    shared = list(map(Path, plan.selection.copies))
    if stack is not None and stack.is_file():  # and no URL
        shared.append(stack)
    functions = {function.name: [function.handler] for function in plan.functions if function.handler is not None}
    return {STACK: shared, **functions}


def _named(files: list[Path]) -> str:
    here = Path.cwd()
    shown = [str(file.relative_to(here)) if file.is_relative_to(here) else str(file) for file in files[:_MOST_NAMED]]
    more = len(files) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
