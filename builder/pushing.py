"""An image from a store to the registry that its name says."""

from __future__ import annotations

from collections.abc import Callable

from builder.image_store import ImageStore
from builder.oci.documents import Descriptor, InvalidImage, Manifest
from builder.registry.reference import parse_reference
from builder.registry.transfer import Pushed, connected, push_image

_BASE = "org.opencontainers.image.base"


def push(store: ImageStore, image: Descriptor, name: str, log: Callable[[str], None], tags: tuple[str, ...] = ()) -> Pushed:
    """Push the image to where its `name` says, under the name's tag and `tags`. Raises RegistryError and InvalidImage."""
    reference = parse_reference(name)
    log(f"pushing {reference}")
    with connected(reference) as registry:
        pushed = push_image(
            store.layout, image, reference, registry, tags=tags, mounts=_mounts(store, image, reference.registry)
        )
    parts = [f"{pushed.sent} blobs sent ({pushed.sent_bytes} bytes)", f"{pushed.there} there before"]
    if pushed.mounted:
        parts.append(f"{pushed.mounted} mounted from the base's repository")
    log(f"pushed {reference.registry}/{reference.repository}@{pushed.digest}: {', '.join(parts)}")
    return pushed


def _mounts(store: ImageStore, image: Descriptor, registry: str) -> dict[str, str]:
    """In which repository of that registry the base's layers are, where the base came from there."""
    mounts: dict[str, str] = {}
    for part in store.layout.reachable(image):
        if not part.is_manifest:
            continue
        said = store.layout.document(part, Manifest).annotations or {}
        name, digest = said.get(f"{_BASE}.name", ""), said.get(f"{_BASE}.digest", "")
        if not name or not digest:
            continue
        base = parse_reference(name)
        if base.registry != registry:
            continue
        path = store.layout.path(digest)
        try:
            stored = Descriptor(media_type=part.media_type, digest=digest, size=path.stat().st_size)
            manifest = store.layout.document(stored, Manifest)
        except (OSError, InvalidImage):
            continue  # the base's own manifest may have been collected: its layers are then sent
        mounts.update((layer.digest, base.repository) for layer in manifest.layers)
    return mounts
