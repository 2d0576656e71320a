"""Base images: found by name, in a registry or a layout, and kept.

What a name stood for when it was first asked for is remembered for each platform, so that a rebuild asks no registry and
two builds have the same base. `pull` asks again. A name with a digest always means the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from builder.disk import write_durably
from builder.image_store import ImageStore
from builder.images import InvalidImageName
from builder.oci.base import BaseContents, contents_of
from builder.oci.documents import Descriptor, ImageConfig, InvalidImage, Manifest, OciPlatform
from builder.oci.exchange import read_image
from builder.platforms import Platform
from builder.registry.errors import RegistryError
from builder.registry.reference import parse_reference

ANOTHER = "another base is given with --base-image or PINNACE_BASE_IMAGE, such as oci:FOLDER for one on this disk"
LAYOUT_PREFIXES = ("oci:", "oci-archive:")


class BaseUnavailable(RuntimeError):
    """The base image cannot be had; the message says which and why."""


@dataclass(frozen=True)
class Base:
    """A base image in the store, for one platform. `name` is as it was asked for."""

    name: str
    image: Descriptor
    manifest: Manifest
    config: ImageConfig
    contents: BaseContents


class Bases:
    """Finds base images in a store. `offline` uses only what is there; `log` hears of what takes long."""

    def __init__(self, store: ImageStore, log: Callable[[str], None], *, offline: bool = False) -> None:
        self._store = store
        self._log = log
        self._offline = offline

    def find(self, name: str, platform: Platform, *, pull: bool = False) -> Base:
        """Return the base image `name` for `platform`; `pull` asks where it comes from what the name stands for now.

        A name is an image's, with or without a digest, or `oci:FOLDER[:NAME]` or `oci-archive:FILE[:NAME]` for a layout
        on this disk. Raises BaseUnavailable, InvalidImageName and InvalidImage.
        """
        layout = self._store.layout
        image = None if pull else self._remembered(name, platform)
        if image is None or not layout.complete(image):
            image = self._fetched(name, platform)
            write_durably(self._record(name, platform), msgspec.json.encode(image))
        manifest = layout.document(image, Manifest)
        config = layout.document(manifest.config, ImageConfig)
        if (config.os, config.architecture) != ("linux", platform.architecture):
            raise BaseUnavailable(f"the base image {name} is for {config.os}/{config.architecture}, not for {platform}")
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise InvalidImage(f"the base image {name} has {len(manifest.layers)} layers, but its configuration names others")
        return Base(name, image, manifest, config, contents_of(layout, manifest, config))

    def _fetched(self, name: str, platform: Platform) -> Descriptor:
        wanted = OciPlatform(architecture=platform.architecture, os="linux")
        if name.startswith(LAYOUT_PREFIXES):
            path, _, image = name.partition(":")[2].partition(":")
            return read_image(Path(path), image, self._store.layout, wanted)
        reference = parse_reference(name)
        if self._offline:
            raise BaseUnavailable(f"the base image {name} for {platform} is not here, and this builder is offline; {ANOTHER}")
        self._log(f"pulling the base image {reference} for {platform}")
        from builder.registry.transfer import connected, pull_image  # a client of registries, for the first time only

        try:
            with connected(reference) as registry:
                image_found = pull_image(self._store.layout, reference, registry, wanted)
        except RegistryError as error:
            raise BaseUnavailable(f"the base image {name} cannot be pulled: {error}; {ANOTHER}") from None
        if not image_found.is_manifest:
            raise BaseUnavailable(f"the base image {name} is not an image for one platform")
        return image_found

    def _remembered(self, name: str, platform: Platform) -> Descriptor | None:
        record = self._record(name, platform)
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            image = msgspec.json.decode(record.read_bytes(), type=Descriptor)
            os.utime(record)
            return image
        return None

    def _record(self, name: str, platform: Platform) -> Path:
        said = f"{name}\n{platform}"
        if name.startswith(LAYOUT_PREFIXES):  # what is on the disk may have been replaced
            path = Path(name.partition(":")[2].partition(":")[0])
            index = path / "index.json" if path.is_dir() else path
            with contextlib.suppress(OSError):
                status = index.stat()
                said += f"\n{path.resolve()}\n{status.st_mtime_ns}\n{status.st_size}"
        return self._store.bases / f"name-{hashlib.sha256(said.encode()).hexdigest()}.json"


def check_base_name(name: str) -> None:
    """Raises InvalidImageName when `name` cannot be a base image's."""
    if name.startswith(LAYOUT_PREFIXES):
        if not name.partition(":")[2]:
            raise InvalidImageName(f"{name!r} names no layout; write oci:FOLDER or oci-archive:FILE")
        return
    parse_reference(name)
