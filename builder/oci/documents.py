"""The documents of the OCI image specification 1.1: descriptors, manifests, indexes, configurations; as JSON and back.

What is written is canonical (fields in a fixed order, keys sorted, no white space), so that the same image has the same
digest. What is read may come from Docker's older format too, whose documents differ in their media types only.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER}+gzip"
LAYER_ZSTD = f"{LAYER}+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)
LARGEST_DOCUMENT_BYTES = 4 << 20
"""What registries must accept (distribution specification, "Pushing Manifests"); nothing larger is read either."""

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"  # what containerd's and Docker's import look for

Document = TypeVar("Document", bound=msgspec.Struct)


class InvalidImage(ValueError):
    """Not the image, manifest or blob it should be; one line says what is wrong."""


class OciPlatform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image in an index runs on."""

    architecture: str
    os: str
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Points to a blob: what it is, its digest `sha256:HEX` and its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: OciPlatform | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def is_manifest(self) -> bool:
        return self.media_type in MANIFESTS

    def bare(self) -> Descriptor:
        """Return it without what only matters where it stands."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An image for one platform, or an artifact that refers to one (`subject`)."""

    schema_version: int = msgspec.field(name="schemaVersion")
    media_type: str = ""
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Images for several platforms, or what refers to an image, or the table of contents of a layout."""

    schema_version: int = msgspec.field(name="schemaVersion")
    media_type: str = ""
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How a container of the image starts."""

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""


class RootFs(msgspec.Struct, frozen=True):
    """Digests of the layers before compression."""

    type: str
    diff_ids: tuple[str, ...]


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a layer came about."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image's configuration."""

    created: str = ""
    architecture: str
    os: str
    variant: str = ""
    config: RunConfig | None = None
    rootfs: RootFs
    history: tuple[History, ...] | None = None


def encode(document: msgspec.Struct) -> bytes:
    """Return the document as canonical JSON."""
    return msgspec.json.encode(document, order="deterministic")


def decode(content: bytes, kind: type[Document], what: str) -> Document:
    """Return the document in `content`. Raises InvalidImage, whose message begins with `what`."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidImage(f"{what} is not what it should be: {error}") from None


def descriptor_of(content: bytes, media_type: str, **more: Any) -> Descriptor:
    """Return the descriptor of `content`."""
    return Descriptor(media_type=media_type, digest=sha256(content), size=len(content), **more)


def sha256(content: bytes) -> str:
    """Return `sha256:HEX` of `content`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def hex_of(digest: str) -> str:
    """Return the hexadecimal part of a digest. Raises InvalidImage for anything but `sha256:HEX`."""
    algorithm, _, text = digest.partition(":")
    if algorithm != "sha256" or len(text) != 64 or not all(c in "0123456789abcdef" for c in text):
        raise InvalidImage(f"{digest[:100]!r} is not a digest such as sha256:HEX")
    return text
