"""An image put together: a base and layers over it become a configuration, a manifest, and a bill of materials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from builder.bases import LAYOUT_PREFIXES, Base
from builder.oci.archive import LayerBlob
from builder.oci.documents import (
    CONFIG,
    DOCKER_LAYER,
    EMPTY,
    LAYER_GZIP,
    MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    OciPlatform,
    RootFs,
    RunConfig,
    encode,
)
from builder.oci.layout import Layout
from builder.platforms import Platform
from builder.sbom import CYCLONEDX, cyclonedx
from builder.wheelhouse import LockedWheel
from builder.wheels import Distribution

LAYER_ANNOTATION = "dev.pinnace.layer"
OCI = "org.opencontainers.image"
USER = "12000:12000"
"""By number, so that a cluster can see that it is not root. The templates' Dockerfiles have the same."""

Layer = tuple[LayerBlob, Descriptor]
"""A layer, and its entry in the manifest, whose annotation LAYER_ANNOTATION says what it is."""


def assembled(
    layout: Layout,
    base: Base,
    layers: Sequence[Layer],
    run: RunConfig,
    platform: Platform,
    annotations: Mapping[str, str],
    created: str,
) -> Descriptor:
    """Put the image of `layers` over `base` into the layout and return it; `created` is RFC 3339."""
    kinds = [(entry.annotations or {})[LAYER_ANNOTATION] for _, entry in layers]
    config = ImageConfig(
        created=created,
        architecture=base.config.architecture,
        os=base.config.os,
        variant=base.config.variant,
        config=run,
        rootfs=RootFs(type="layers", diff_ids=(*base.config.rootfs.diff_ids, *(layer.diff_id for layer, _ in layers))),
        history=(*_history(base.config), *(History(created=created, created_by=f"pinnace: {kind}") for kind in kinds)),
    )
    told = {f"{OCI}.created": created, f"{OCI}.base.digest": base.image.digest, **annotations}
    if name := spoken_name(base):
        told[f"{OCI}.base.name"] = name
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST,
        config=layout.add(encode(config), CONFIG),
        layers=(*(_as_oci(layer) for layer in base.manifest.layers), *(entry for _, entry in layers)),
        annotations=dict(sorted(told.items())),
    )
    stored = layout.add(encode(manifest), MANIFEST)
    return Descriptor(
        media_type=stored.media_type,
        digest=stored.digest,
        size=stored.size,
        platform=OciPlatform(architecture=platform.architecture, os="linux", variant=base.config.variant),
    )


def bill_of(
    layout: Layout,
    image: Descriptor,
    base: Base,
    packages: Sequence[tuple[LockedWheel, Distribution]],
    created: str,
    *,
    name: str = "function",
) -> Descriptor:
    """Put the bill of materials of `image`, which it calls `name`, into the layout and return it."""
    content = cyclonedx(image, spoken_name(base) or "base", base.image.digest, packages, created, name=name)
    annotations = {f"{OCI}.created": created}
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST,
        artifact_type=CYCLONEDX,
        config=layout.add(b"{}", EMPTY),
        layers=(layout.add(content, CYCLONEDX),),
        subject=image.bare(),
        annotations=annotations,
    )
    stored = layout.add(encode(manifest), MANIFEST)
    return msgspec.structs.replace(stored, artifact_type=CYCLONEDX, annotations=annotations)


def spoken_name(base: Base) -> str:
    """Return the base image's name, empty for one from a layout: where that lies on this disk is nobody else's concern."""
    return "" if base.name.startswith(LAYOUT_PREFIXES) else base.name


def variables_of(base: Base) -> dict[str, str]:
    """Return the environment that a base image gives its processes."""
    run = base.config.config or RunConfig()
    return dict(entry.partition("=")[::2] for entry in run.env or ())


def _history(base: ImageConfig) -> tuple[History, ...]:
    """The base's history, made to fit its layers: others refuse to build on an image whose history has too few."""
    history = base.history or ()
    if sum(not step.empty_layer for step in history) == len(base.rootfs.diff_ids):
        return history
    return tuple(History(created_by="base image") for _ in base.rootfs.diff_ids)


def _as_oci(layer: Descriptor) -> Descriptor:
    """A layer of a base image in Docker's older format, named as OCI names it: the blob is the same."""
    return msgspec.structs.replace(
        layer.bare(), media_type=LAYER_GZIP if layer.media_type == DOCKER_LAYER else layer.media_type
    )
