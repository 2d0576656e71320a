"""`faas push`: images that were built on this machine, to their registries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.batch import shown, side_by_side, tell
from cli.dockerfile import needs_container_tool, push_dockerfile
from cli.errors import Misuse
from cli.image_flags import SelectFlags, select_options
from cli.image_tags import pushed_name
from cli.images import import_images, open_store, push_image
from cli.progress import Progress
from cli.stack import StackFunction


@click.command(short_help="Push images that were built here to their registries.")
@click.argument("path", metavar="[PATH]", default="")
@click.option("--extra-tag", multiple=True, metavar="TAG", help="Push under this tag too.")
@click.option("--from", "source", metavar="PATH", default="", help="Take the images from a layout: a folder, or a tar file.")
@select_options
def push(path: str, extra_tag: tuple[str, ...], source: str, **values: Any) -> int:
    """Push images that faas build made on this machine to the registries that their names say.

    Logins are Docker's: docker login, or any credential helper. What a registry has is not sent again.

    \b
    faas push                                   the images of stack.yaml's functions
    faas push --from images.tar --image registry.example.com/hello:1
    """
    flags = SelectFlags.of(values)
    store = open_store()
    if source:
        if not flags.image:
            raise Misuse("--from needs --image IMAGE, the name of the image in there and where it is to go")
        import_images(store, Path(source), (flags.image,))
        functions: tuple[StackFunction, ...] = (StackFunction(flags.image, image=flags.image),)
    else:
        functions = flags.selected(path).functions

    def do(function: StackFunction, progress: Progress) -> str:
        name = shown(function)
        image = pushed_name(function, flags.tagging)
        progress.stage(name, "pushing")
        if needs_container_tool(function):
            push_dockerfile(function, image, lambda line: tell(name, line, progress, verbose=flags.verbose))
            return f"Pushed {image}, which the container builder had"
        pushed = push_image(store, image, lambda line: tell(name, line, progress, verbose=flags.verbose), extra_tag)
        return f"Pushed {image} ({pushed.digest}): {pushed.sent} sent, {pushed.there + pushed.mounted} there"

    return side_by_side(functions, do, parallel=flags.parallel, verbose=flags.verbose, word="pushed")
