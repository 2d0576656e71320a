"""A machine's folder in which images are built, and bases that are enough to build on."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import Any

from builder.bundle_build import Reporter
from builder.context import BuildConfig, write_context
from builder.image_build import ImageBuild
from builder.image_store import ImageStore
from builder.oci.archive import Entry, opened, write_layer
from builder.oci.documents import (
    CONFIG,
    INDEX,
    MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    OciPlatform,
    RootFs,
    encode,
)
from builder.oci.layout import Layout
from builder.platforms import host_platform
from builder.templates import Templates

GLIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Log(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def names(self, image: str) -> None:
        self.lines.append(f"names {image}")

    def log(self, line: str) -> None:
        self.lines.append(line)


class Place:
    """A machine's folder in which images are built."""

    def __init__(self, root: Path, base: str) -> None:
        self.root = root
        self.store = ImageStore(root / "store")
        self.layout = self.store.layout
        self.base = base
        self.log = Log()

    def build(
        self,
        function: Path,
        *,
        image: str = "hello:1",
        platforms: tuple[str, ...] = (),
        build_args: dict[str, str] | None = None,
        language: str = "python3-http",
        **options: Any,
    ) -> Descriptor:
        self.log.lines.clear()
        build = ImageBuild(self.store, Templates(), self.log, self.store.wheelhouse(self.log.log), base=self.base, **options)
        path = self.root / "context.tar"
        with path.open("w+b") as file:
            write_context(
                file,
                function,
                Templates().find(language),
                BuildConfig(image=image, platforms=platforms, build_args=build_args or {}),
            )
            return build.run(file)

    def manifest(self, image: Descriptor) -> Manifest:
        return self.layout.document(image, Manifest)

    def config(self, image: Descriptor) -> ImageConfig:
        return self.layout.document(self.manifest(image).config, ImageConfig)

    def names(self, layer: Descriptor) -> list[str]:
        with (
            self.layout.path(layer.digest).open("rb") as file,
            tarfile.open(fileobj=opened(file, layer.media_type), mode="r|") as tar,
        ):
            return [member.name for member in tar]


def small_base(root: Path, *architectures: str, python: str = PYTHON, program: str = "") -> str:
    """A base that says it has a Python, or that program, enough to build on and not to run, for each architecture."""
    layout = Layout(root)
    images = []
    for architecture in architectures or (host_platform().architecture,):
        entries = [
            Entry(program or f"usr/bin/python{python}", architecture.encode(), executable=True),
            Entry("lib/libc.so.6", GLIBC),
        ]
        layer = write_layer(layout, entries)
        config = layout.add(
            encode(ImageConfig(architecture=architecture, os="linux", rootfs=RootFs("layers", (layer.diff_id,)))), CONFIG
        )
        stored = layout.add(
            encode(Manifest(schema_version=2, media_type=MANIFEST, config=config, layers=(layer.blob,))), MANIFEST
        )
        platform = OciPlatform(architecture=architecture, os="linux")
        images.append(Descriptor(media_type=MANIFEST, digest=stored.digest, size=stored.size, platform=platform))
    layout.tag("base", layout.add(encode(Index(schema_version=2, media_type=INDEX, manifests=tuple(images))), INDEX))
    return f"oci:{root}"
