"""Functions with a Dockerfile (`lang: dockerfile`, or a template that has nothing else): an image by a container builder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from builder.templates import PROJECT_FOLDER, InvalidTemplate, Templates, UnknownTemplate
from cli.build import BuildFailed, image_of, template_of
from cli.errors import Misuse
from cli.shrinkwrap import write_context_folder
from cli.stack import DOCKERFILE, StackFunction


def needs_container_tool(function: StackFunction) -> bool:
    """Whether the function's template has only a Dockerfile."""
    if not function.builds or function.lang == DOCKERFILE:
        return function.builds
    try:
        return not Templates(project=PROJECT_FOLDER).find(function.lang).runs_here
    except (UnknownTemplate, InvalidTemplate):
        return False


def process_of(function: StackFunction) -> str:
    """Return the command that is sent for the function: its own, else that of its template's image, as faas-cli does it."""
    if function.fprocess or not function.lang or not needs_container_tool(function) or function.lang == DOCKERFILE:
        return function.fprocess
    return Templates(project=PROJECT_FOLDER).find(function.lang).fprocess


def build_dockerfile(
    function: StackFunction,
    copies: tuple[str, ...],
    told: Callable[[str], None],
    *,
    image: str = "",
    no_cache: bool = False,
    push: bool = False,
) -> str:
    """Build the function's image with the container builder that is here, push it if that is wanted, and return its name.

    `told` gets each line. Raises Misuse for a folder that cannot be built, BuildFailed, also where no builder is here.
    """
    from builder.container_tool import ContainerToolFailed, ImageRequest, find_tool

    image = image or image_of(function)
    secrets = {name: Path(path).expanduser() for name, path in function.build_secrets.items()}
    if missing := [str(path) for path in secrets.values() if not path.is_file()]:
        raise Misuse(f"{function.name}: build_secrets: there is no file {missing[0]}")
    try:
        tool = find_tool()
        with tempfile.TemporaryDirectory(prefix="faas-build-") as folder:
            context = write_context_folder(function, copies, Path(folder))
            wanted = ImageRequest(
                context=context,
                image=image,
                build_args=function.build_args,
                platforms=function.platforms,
                secrets=secrets,
                no_cache=no_cache,
                push=push,
            )
            told(f"building {image} with {tool.kind}")
            tool.build(wanted, told)
    except ContainerToolFailed as failure:
        raise BuildFailed(f"{function.name}: not built: {failure}", list(failure.log)) from None
    return image


def push_dockerfile(function: StackFunction, image: str, told: Callable[[str], None]) -> None:
    """Push an image that the container builder here has. Raises BuildFailed."""
    from builder.container_tool import ContainerToolFailed, find_tool

    try:
        find_tool().push(image, told)
    except ContainerToolFailed as failure:
        raise BuildFailed(f"{function.name}: not pushed: {failure}", list(failure.log)) from None


def build_for_registry(
    function: StackFunction, copies: tuple[str, ...], told: Callable[[str], None], *, push: bool, verbose: bool
) -> str:
    """Build the function's image, by a container builder where it has only a Dockerfile, else by ours; return its name.

    Raises what these raise.
    """
    if needs_container_tool(function):
        return build_dockerfile(function, copies, told, push=push)
    from cli.image_flags import ImageFlags
    from cli.images import build_image, open_store, push_image

    store = open_store()
    built = build_image(store, function, template_of(function), copies, ImageFlags.plain(verbose=verbose), told)
    if push:
        push_image(store, built.name, told)
    store.collect_sometimes()
    return built.name
