"""`faas generate`: Function resources for kubectl and GitOps, of a stack file or an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import click

from builder.registry.reference import has_registry
from cli.build import image_of
from cli.image_tags import TAGGINGS, Tagging, pushed_name
from cli.selection import Asked, select
from cli.stack_flags import ENVSUBST, SELECTING


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(SELECTING):
        command = option(command)
    return command


@click.command(short_help="Write Function resources for kubectl and GitOps.")
@click.argument("path", metavar="[PATH]", default="")
@click.option("--image", metavar="IMAGE", default="", help="One function of an image that exists, with --name.")
@click.option(
    "--namespace",
    "-n",
    metavar="NAME",
    default="",
    help="Where the functions run, not what their images are called. Default: the stack file's.",
)
@click.option(
    "--tag",
    "tagging",
    type=click.Choice(TAGGINGS),
    default="latest",
    help="The tag of the commit or the code, as faas publish made it. Default: latest, the name's own tag.",
)
@click.option("--api", metavar="VERSION", default="", hidden=True, help="Taken as faas-cli's; there is one version.")
@ENVSUBST
@_selecting
def generate(
    path: str,
    image: str,
    namespace: str,
    tagging: Tagging,
    api: str,
    envsubst: bool,
    file: str,
    glob: str,
    regex: str,
    name: str,
) -> None:
    """Write the Functions that a deploy of the stack file would make, as YAML. Nothing is built or sent.

    \b
    faas generate | kubectl apply --server-side -f -
    faas publish --tag sha && faas generate --tag sha > functions.yaml
    """
    from cli.generation import documents, manifest_of

    selection = select(Asked(path, file, image, name, "", glob, regex, envsubst))
    found = []
    for function in selection.functions:
        told = pushed_name(function, tagging) if function.builds else image_of(function)
        found.append(manifest_of(replace(function, namespace=namespace or function.namespace), told))
        if not has_registry(told):
            click.echo(f"Note: {function.name}: the image {told} names no registry: nodes look for it at docker.io", err=True)
    for note in selection.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(documents(found), nl=False)
