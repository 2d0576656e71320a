"""`faas platform-image`: the image that runs the platform on a cluster, made of this very installation."""

from __future__ import annotations

import time

import click

from cli.commands.build import output_of
from cli.images import build_own, open_store, push_image, write_output
from cli.tables import seconds_text


@click.command("platform-image", short_help="Build the platform's own image, for clusters.")
@click.argument("image", metavar="IMAGE")
@click.option("--push", is_flag=True, help="Push it to the registry of its name.")
@click.option("--output", "-o", metavar="KIND[=PATH]", default="", help="Also write it as oci-layout or tar.")
@click.option("--platforms", metavar="NAMES", default="", help="linux/amd64, linux/arm64 or both. Default: this machine's.")
@click.option("--base-image", metavar="IMAGE", default="", help="What it is built on; else $PINNACE_BASE_IMAGE, else python's.")
@click.option("--pull", is_flag=True, help="Ask the registry what the base image's name stands for now.")
@click.option("--no-cache", is_flag=True, help="Fetch the packages anew.")
@click.option("--offline", is_flag=True, help="Use only what is on this machine.")
@click.option(
    "--compression", type=click.Choice(["gzip", "zstd", "none"]), default="gzip", show_default=True, help="Of the layers."
)
def platform_image(
    image: str,
    push: bool,
    output: str,
    platforms: str,
    base_image: str,
    pull: bool,
    no_cache: bool,
    offline: bool,
    compression: str,
) -> None:
    """Build the image IMAGE of this installation of Pinnace: one for every role, without a container engine.

    \b
    faas platform-image registry.example.com/team/pinnace:0.1.0 --push
    faas platform-image pinnace:test --output tar=pinnace.tar

    Its packages are locked, so that the same version on the same base is the same image, to the byte. It runs as user 12000,
    and writes to /tmp and its data folder only. Entry point is faas.
    """
    started = time.monotonic()
    kind, place = output_of(output)
    store = open_store()
    wanted = tuple(name.strip() for name in platforms.split(",") if name.strip())

    def told(line: str) -> None:
        click.echo(line, err=True)

    built = build_own(
        store, image, wanted, told, base=base_image, pull=pull, no_cache=no_cache, offline=offline, compression=compression
    )
    if kind:
        write_output(store, (built,), kind, place, sbom=True)
        click.echo(f"Wrote {place}")
    if push:
        push_image(store, built.name, told)
    done = "Published" if push else "Built"
    click.echo(f"{done} in {seconds_text(time.monotonic() - started)}. Image: {built.name} ({built.image.digest})")
    store.collect_sometimes()
