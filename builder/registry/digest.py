"""Which content an image's name stands for now, by its registry's word."""

from __future__ import annotations

from collections.abc import Sequence

from builder.images import InvalidImageName
from builder.oci.documents import InvalidImage
from builder.registry.errors import RegistryError
from builder.registry.reference import is_allowed, parse_reference
from builder.registry.transfer import connected


def find_digest(image: str, registries: Sequence[str]) -> str | None:
    """Return the digest of an image in one of `registries`; None for others, and where it cannot be known. Waits for it."""
    try:
        if not is_allowed(image, registries):
            return None
        reference = parse_reference(image)
        if reference.digest is not None:
            return reference.digest
        with connected(reference) as registry:
            return registry.manifest(reference.repository, reference.reference)[0].digest
    except (InvalidImageName, InvalidImage, RegistryError):
        return None
