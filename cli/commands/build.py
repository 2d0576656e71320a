"""`faas build`: container images of functions, on this machine and without a gateway."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cli.batch import shown, side_by_side, tell, test
from cli.build import template_of
from cli.dockerfile import build_dockerfile, needs_container_tool
from cli.errors import Misuse
from cli.guess import check_entry
from cli.handler_code import check_handler
from cli.image_flags import ImageFlags, image_options
from cli.image_tags import pushed_name
from cli.images import Built, build_image, open_store, write_output
from cli.progress import Progress
from cli.selection import Selection
from cli.stack import StackFunction
from cli.tables import seconds_text

OUTPUTS = {"oci-layout": Path("build/oci"), "tar": Path("build/images.tar")}


@click.command(short_help="Build container images of functions, without a gateway.")
@click.argument("path", metavar="[PATH]", default="")
@click.option(
    "--output",
    "-o",
    metavar="KIND[=PATH]",
    default="",
    help="Also write the images as oci-layout (a folder, build/oci) or tar (one file, build/images.tar).",
)
@click.option("--shrinkwrap", is_flag=True, help="Only write each function's build context to ./build/NAME.")
@image_options
def build(path: str, output: str, shrinkwrap: bool, **values: Any) -> int:
    """Build container images of functions, without a gateway and without a container engine.

    \b
    faas build                                all functions of stack.yaml
    faas build ./src --image registry/hello:1 a folder
    faas build --platforms linux/amd64,linux/arm64 --output tar=hello.tar

    A function with a Dockerfile is built by the container builder that is here: buildah, podman, docker buildx or BuildKit.
    Images are kept on this machine, where faas push finds them; skopeo, podman and others read what --output writes.
    """
    flags = ImageFlags.of(values)
    kind, place = output_of(output)
    selection = chosen(path, flags)
    if shrinkwrap:
        from cli.shrinkwrap import write_contexts

        return write_contexts(selection.functions, selection.copies)
    store, built = open_store(), list[Built]()

    def do(function: StackFunction, progress: Progress) -> str:
        started = time.monotonic()
        name = shown(function)

        def told(line: str) -> None:
            tell(name, line, progress, verbose=flags.verbose)

        if needs_container_tool(function):
            progress.stage(name, "building")
            image = build_dockerfile(function, selection.copies, told, no_cache=flags.no_cache)
            return f"Built {name} in {seconds_text(time.monotonic() - started)}. Image: {image}, kept by the container builder"
        template = template_of(function)
        check_handler(function, template, selection.copies)
        if flags.test_timeout_s is not None:
            test(function, selection.copies, template, progress, flags.test_timeout_s, verbose=flags.verbose)
        progress.stage(name, "building")
        made = build_image(store, function, template, selection.copies, flags, told)
        built.append(made)
        return f"Built {name} in {seconds_text(time.monotonic() - started)}. Image: {made.name} ({made.image.digest})"

    code = side_by_side(selection.functions, do, parallel=flags.parallel, verbose=flags.verbose, word="built")
    if kind and code == 0:
        write_output(store, tuple(built), kind, place, sbom=flags.sbom)
        click.echo(f"Wrote {place}")
    store.collect_sometimes()
    return code


def chosen(path: str, flags: ImageFlags) -> Selection:
    """Return the functions to build, checked, with the images' full names. Raises Misuse."""
    selection = flags.selected(path, flags.lang)
    functions = []
    for function in selection.functions:
        function = flags.applied_to(function)
        if function.handler is not None:
            check_entry(function.name, function.lang, function.handler, selection.copies, function.fprocess)
        functions.append(replace(function, image=pushed_name(function, flags.tagging)))
    if not functions:
        raise Misuse("there is nothing to build: every function has skip_build or names an image that exists")
    return replace(selection, functions=tuple(functions))


def output_of(text: str) -> tuple[str, Path]:
    """Return the kind and place of `--output KIND[=PATH]`, both empty where it was not given. Raises Misuse."""
    kind, _, place = text.partition("=")
    if kind and kind not in OUTPUTS:
        raise Misuse(f"--output {text!r}: oci-layout or tar, with =PATH where it is to go")
    return kind, Path(place) if place else OUTPUTS.get(kind, Path())
