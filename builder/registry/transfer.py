"""Whole images between a layout and a registry: what is there already is not sent again, several blobs go at a time.

The order makes what others can see whole: blobs first, then manifests, then the index or tag. An image's layers that came
from a base in the same registry are mounted from the base's repository, not sent.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from builder.oci.documents import Descriptor, Index, InvalidImage, Manifest, OciPlatform, decode
from builder.oci.exchange import choose
from builder.oci.layout import Layout
from builder.registry.client import Registry
from builder.registry.errors import NotInRegistry
from builder.registry.reference import Reference
from builder.registry.transport import Transport

BLOBS_AT_A_TIME = 4
LARGEST_IMAGE_BYTES = 8 << 30
"""What a pull takes at most, compressed: a manifest may announce anything, and the disk is shared."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pushed:
    """What a push did: the image's digest, and how many blobs were sent, mounted from elsewhere, or there before."""

    digest: str
    sent: int
    mounted: int
    there: int
    sent_bytes: int


def push_image(
    layout: Layout,
    image: Descriptor,
    to: Reference,
    registry: Registry,
    *,
    tags: tuple[str, ...] = (),
    mounts: Mapping[str, str] | None = None,
) -> Pushed:
    """Push the image, and what refers to it, to its repository under its tag and `tags`.

    `mounts` says for digests of blobs in which other repository of the same registry they are. Raises RegistryError and
    InvalidImage.
    """
    if registry.has_manifest(to.repository, image.digest):
        blobs: list[Descriptor] = []  # who has a manifest has what it names
    else:
        blobs = [part for part in layout.reachable(image) if not (part.is_manifest or part.is_index)]
    manifests = [part for part in layout.reachable(image) if part.is_manifest or part.is_index]
    referrers = [(part, referrer) for part in manifests for referrer in layout.referrers(part)]
    for _, referrer in referrers:
        blobs += [part for part in layout.reachable(referrer) if part.digest != referrer.digest]

    def push(blob: Descriptor) -> str:
        source = (mounts or {}).get(blob.digest)
        source = source if source != to.repository else None
        return registry.push_blob(to.repository, blob, layout.path(blob.digest), source)

    unique = list({blob.digest: blob for blob in blobs}.values())
    outcomes = list(_several(push, unique))
    for part in manifests:
        if part.digest != image.digest:
            registry.put_manifest(to.repository, part.digest, layout.read(part), part.media_type)
    content = layout.read(image)
    for reference in dict.fromkeys((*((to.tag,) if to.tag else (image.digest,)), *tags)):
        registry.put_manifest(to.repository, reference, content, image.media_type)
    for subject, referrer in referrers:
        if not registry.put_manifest(to.repository, referrer.digest, layout.read(referrer), referrer.media_type):
            registry.add_referrer(to.repository, subject.digest, referrer)
    sent = [blob.size for blob, outcome in zip(unique, outcomes, strict=True) if outcome == "sent"]
    return Pushed(image.digest, len(sent), outcomes.count("mounted"), outcomes.count("there"), sum(sent))


def pull_image(layout: Layout, source: Reference, registry: Registry, platform: OciPlatform | None = None) -> Descriptor:
    """Bring the image into the layout and return its descriptor; of an index only the image for `platform`, if that is given.

    Raises RegistryError and InvalidImage.
    """
    found, content = registry.manifest(source.repository, source.reference)
    if found.is_index and platform is not None:
        entry = choose(decode(content, Index, found.digest), platform, str(source))
        found, content = registry.manifest(source.repository, entry.digest)
    _pull(layout, source, registry, found, content)
    return found


def pull_referrers(layout: Layout, source: Reference, registry: Registry, image: Descriptor) -> tuple[Descriptor, ...]:
    """Bring what refers to the manifest `image` into the layout and return it. Raises RegistryError and InvalidImage."""
    found = []
    for referrer in registry.referrers(source.repository, image.digest):
        with contextlib.suppress(NotInRegistry):  # a list by tag may outlive what it lists
            described, content = registry.manifest(source.repository, referrer.digest)
            _pull(layout, source, registry, described, content)
            found.append(referrer)
    return tuple(found)


@contextlib.contextmanager
def connected(reference: Reference) -> Iterator[Registry]:
    """The registry that the reference names; its connections are closed at the end."""
    with Transport() as transport:
        yield Registry(reference.registry, transport)


def _pull(layout: Layout, source: Reference, registry: Registry, found: Descriptor, content: bytes) -> None:
    if found.is_index:
        for inner in decode(content, Index, found.digest).manifests:
            described, document = registry.manifest(source.repository, inner.digest)
            if described.is_index:
                raise InvalidImage(f"{source} is an index of indexes, which no builder makes")
            _pull(layout, source, registry, described, document)
    else:
        manifest = decode(content, Manifest, found.digest)
        if (size := sum(max(0, blob.size) for blob in (*manifest.layers, manifest.config))) > LARGEST_IMAGE_BYTES:
            raise InvalidImage(f"{source} has {size} bytes; at most {LARGEST_IMAGE_BYTES} are pulled")

        def pull(blob: Descriptor) -> None:
            if not layout.has(blob):
                with layout.new_blob() as new:
                    registry.pull_blob(source.repository, blob, new)
                    new.commit(blob.media_type, blob)

        list(_several(pull, [*manifest.layers, manifest.config]))
    layout.add(content, found.media_type)


def _several(work: Callable[[Descriptor], Result], blobs: list[Descriptor]) -> Iterator[Result]:
    """Do the work for all blobs, several at a time; the first failure ends it."""
    if len(blobs) <= 1:
        yield from map(work, blobs)
        return
    with concurrent.futures.ThreadPoolExecutor(BLOBS_AT_A_TIME) as pool:
        futures = [pool.submit(work, blob) for blob in blobs]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
