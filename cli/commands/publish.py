"""`faas publish`: images built and pushed at once, for several platforms; here or by a builder elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from builder.events import NOT_PUSHED
from builder.registry.reference import has_registry
from cli.batch import shown, side_by_side, tell, test
from cli.build import BuildFailed, config_of, template_of
from cli.build import build as build_there
from cli.commands.build import chosen
from cli.dockerfile import build_dockerfile, needs_container_tool
from cli.errors import Misuse
from cli.handler_code import check_handler
from cli.image_flags import ImageFlags, image_options
from cli.progress import Progress
from cli.stack import StackFunction
from cli.tables import seconds_text


@click.command(short_help="Build images and push them, here or with a remote builder.")
@click.argument("path", metavar="[PATH]", default="")
@click.option("--extra-tag", multiple=True, metavar="TAG", help="Push under this tag too.")
@click.option(
    "--remote-builder", metavar="URL", default="", help="Build and push there: faas builder, or a gateway with --registries."
)
@click.option(
    "--payload-secret", metavar="FILE", default="", help="Sign the build with the secret in this file, instead of a login."
)
@click.option("--tls-no-verify", is_flag=True, help="Accept any TLS certificate of the remote builder.")
@image_options
def publish(
    path: str, extra_tag: tuple[str, ...], remote_builder: str, payload_secret: str, tls_no_verify: bool, **values: Any
) -> int:
    """Build images and push them to the registries that their names say.

    \b
    faas publish --platforms linux/amd64,linux/arm64
    faas publish --remote-builder http://builder:8080 --payload-secret payload.txt
    """
    flags = ImageFlags.of(values)
    selection = chosen(path, flags)
    if remote_builder:
        if extra_tag:
            raise Misuse("--extra-tag is for builds on this machine; a remote builder pushes the one name")
        if flags.only_here:
            raise Misuse(f"{', '.join(flags.only_here)}: for builds on this machine only; a remote builder has its own")
        return _publish_there(remote_builder, payload_secret, tls_no_verify, flags, selection.functions, selection.copies)
    if payload_secret:
        raise Misuse("--payload-secret signs what goes to --remote-builder URL")
    from cli.images import build_image, open_store, push_image

    store = open_store()

    def do(function: StackFunction, progress: Progress) -> str:
        started = time.monotonic()
        name = shown(function)

        def told(line: str) -> None:
            tell(name, line, progress, verbose=flags.verbose)

        if needs_container_tool(function):
            if extra_tag:
                raise Misuse(f"{name}: --extra-tag is for images without a Dockerfile")
            progress.stage(name, "building and pushing")
            image = build_dockerfile(function, selection.copies, told, no_cache=flags.no_cache, push=True)
            return f"Published {name} in {seconds_text(time.monotonic() - started)}. Image: {image}"
        template = template_of(function)
        check_handler(function, template, selection.copies)
        if flags.test_timeout_s is not None:
            test(function, selection.copies, template, progress, flags.test_timeout_s, verbose=flags.verbose)
        progress.stage(name, "building")
        built = build_image(store, function, template, selection.copies, flags, told)
        progress.stage(name, "pushing")
        push_image(store, built.name, told, extra_tag)
        return f"Published {name} in {seconds_text(time.monotonic() - started)}. Image: {built.name} ({built.image.digest})"

    code = side_by_side(selection.functions, do, parallel=flags.parallel, verbose=flags.verbose, word="published")
    store.collect_sometimes()
    return code


def _publish_there(
    url: str,
    secret_file: str,
    tls_no_verify: bool,
    flags: ImageFlags,
    functions: tuple[StackFunction, ...],
    copies: tuple[str, ...],
) -> int:
    from cli.options import open_gateway

    builder = open_gateway(url, tls_no_verify)
    secret = _secret(secret_file) if secret_file else None

    def do(function: StackFunction, progress: Progress) -> str:
        started = time.monotonic()
        name = shown(function)
        template = template_of(function)
        check_handler(function, template, copies)
        if flags.test_timeout_s is not None:
            test(function, copies, template, progress, flags.test_timeout_s, verbose=flags.verbose)
        progress.stage(name, "building")
        config = config_of(function, no_cache=flags.no_cache)
        image, log = build_there(
            builder, function, copies, lambda line: tell(name, line, progress, verbose=flags.verbose), config, secret
        )
        if reason := next((line for line in log if line.startswith(NOT_PUSHED)), ""):
            raise BuildFailed(f"{name}: built for {url} itself, but {reason}", [])
        if not has_registry(image):
            took = seconds_text(time.monotonic() - started)
            return f"Built {name} at {url} in {took}. Image: {image}, which says no registry: nothing was pushed"
        return f"Published {name} in {seconds_text(time.monotonic() - started)}. Image: {image}"

    return side_by_side(functions, do, parallel=flags.parallel, verbose=flags.verbose, word="published")


def _secret(file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise Misuse(f"--payload-secret {file}: {error.strerror}") from None
