"""Layouts that come from or go to elsewhere: a folder or a tar file, as `skopeo` and `podman` write and read them.

This is how images cross to where no registry can be reached. What comes in is verified blob by blob.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from builder.disk import FILE_MODE
from builder.oci.archive import Entry, archive_of
from builder.oci.documents import (
    IMAGE_NAME,
    INDEX,
    LARGEST_DOCUMENT_BYTES,
    REF_NAME,
    Descriptor,
    Index,
    InvalidImage,
    Manifest,
    OciPlatform,
    decode,
    encode,
    hex_of,
    sha256,
)
from builder.oci.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, Layout

_PIECE_BYTES = 1 << 20
_MOST_MEMBERS = 10_000
OpenBlob = Callable[[Descriptor], contextlib.AbstractContextManager[IO[bytes]]]


def write_archive(layout: Layout, images: dict[str, Descriptor], file: Path, *, referrers: bool = True) -> None:
    """Write the named images, with what refers to them, to the tar `file`: an OCI layout. The same images, the same bytes."""
    blobs, index = _contents(layout, images, referrers)
    entries = [
        Entry(LAYOUT_FILE, LAYOUT_VERSION),
        Entry(INDEX_FILE, index),
        *(Entry(f"blobs/sha256/{hex_of(digest)}", layout.path(digest).read_bytes) for digest in sorted(blobs)),
    ]
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(descriptor, "wb") as out:
            for piece in archive_of(entries):
                out.write(piece)
            os.fchmod(out.fileno(), FILE_MODE)
        Path(name).rename(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_folder(layout: Layout, images: dict[str, Descriptor], folder: Path, *, referrers: bool = True) -> None:
    """Write the named images, with what refers to them, to the layout in `folder`, which may hold others already."""
    other = Layout(folder)
    blobs, _ = _contents(layout, images, referrers)
    for digest, blob in blobs.items():
        if not other.has(blob):
            shutil.copyfile(layout.path(digest), other.path(digest))
    for name, image in images.items():
        other.tag(name, image, _referrers(layout, image) if referrers else ())


def read_image(source: Path, name: str, into: Layout, platform: OciPlatform | None = None) -> Descriptor:
    """Copy an image from the layout in a folder or tar file, and return its descriptor.

    `name` may be empty where the layout has one image. Of an index for several platforms only the image for `platform` is
    copied and returned, where that is given. Raises InvalidImage.
    """
    with _opened(source) as (index, open_blob):
        image = _chosen(index, name, source)
        if image.is_index and platform is not None:
            inner = decode(_read(open_blob, image), Index, image.digest)
            image = choose(inner, platform, str(source))
        _copy(image, open_blob, into)
        return image


def choose(index: Index, platform: OciPlatform, where: str) -> Descriptor:
    """Return the manifest for `platform` in an index. Raises InvalidImage, which lists what there is."""
    for entry in index.manifests:
        said = entry.platform
        same = said is not None and (said.os, said.architecture) == (platform.os, platform.architecture)
        if said is not None and same and said.variant in ("", "v8", platform.variant):
            return entry
    there = ", ".join(sorted(f"{m.platform.os}/{m.platform.architecture}" for m in index.manifests if m.platform))
    raise InvalidImage(f"{where} is not there for {platform.os}/{platform.architecture}; it is for {there or 'no platform'}")


def _contents(layout: Layout, images: dict[str, Descriptor], referrers: bool) -> tuple[dict[str, Descriptor], bytes]:
    blobs: dict[str, Descriptor] = {}
    listed: list[Descriptor] = []
    others: dict[str, Descriptor] = {}
    for name, image in images.items():
        blobs.update((part.digest, part) for part in layout.reachable(image))
        annotations = {REF_NAME: name, IMAGE_NAME: name}
        listed.append(
            Descriptor(
                media_type=image.media_type,
                digest=image.digest,
                size=image.size,
                platform=image.platform,
                annotations=annotations,
            )
        )
        if referrers:
            others.update((entry.digest, entry) for entry in _referrers(layout, image))
    for entry in others.values():
        blobs.update((part.digest, part) for part in layout.reachable(entry))
    return blobs, encode(Index(schema_version=2, media_type=INDEX, manifests=(*listed, *others.values())))


def _referrers(layout: Layout, image: Descriptor) -> tuple[Descriptor, ...]:
    """What refers to the image or, of an index, to one of its images."""
    parts = [part for part in layout.reachable(image) if part.is_manifest or part.is_index]
    return tuple(referrer for part in parts for referrer in layout.referrers(part))


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tuple[Index, OpenBlob]]:
    if source.is_dir():
        yield (
            decode(_small(source / INDEX_FILE), Index, f"{source / INDEX_FILE}"),
            lambda blob: (source / "blobs" / "sha256" / hex_of(blob.digest)).open("rb"),
        )
        return
    try:
        with tarfile.open(source) as tar:
            members: dict[str, tarfile.TarInfo] = {}
            for member in tar:
                if len(members) >= _MOST_MEMBERS:
                    raise InvalidImage(f"{source} has more than {_MOST_MEMBERS} entries: no image")
                if member.isreg():
                    members[member.name.removeprefix("./")] = member

            def content(name: str) -> IO[bytes]:
                file = tar.extractfile(members[name]) if name in members else None
                if file is None:
                    raise FileNotFoundError(f"{source} has no {name}")
                return file

            index = content(INDEX_FILE).read(LARGEST_DOCUMENT_BYTES)
            yield decode(index, Index, f"{INDEX_FILE} in {source}"), lambda blob: content(f"blobs/sha256/{hex_of(blob.digest)}")
    except (tarfile.TarError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidImage(f"{source} is not an image in OCI's layout: {reason}") from None


def _small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_DOCUMENT_BYTES)
    except OSError as error:
        raise InvalidImage(f"{path.parent} is not an image in OCI's layout: {error.strerror}: {path.name}") from None


def _chosen(index: Index, name: str, source: Path) -> Descriptor:
    images = [entry for entry in index.manifests if not entry.artifact_type]
    if name:
        images = [e for e in images if name in ((e.annotations or {}).get(REF_NAME), (e.annotations or {}).get(IMAGE_NAME))]
    if len(images) == 1:
        return images[0]
    names = sorted(
        (entry.annotations or {}).get(REF_NAME, entry.digest) for entry in index.manifests if not entry.artifact_type
    )
    if name:
        raise InvalidImage(f"{source} has no image {name!r}; it has {', '.join(names) or 'none'}")
    raise InvalidImage(f"{source} has {len(names)} images; say which: {', '.join(names)}")


def _copy(image: Descriptor, open_blob: OpenBlob, into: Layout) -> None:
    if into.complete(image):
        return
    content = _read(open_blob, image)
    if image.is_index:
        for inner in decode(content, Index, image.digest).manifests:
            if inner.is_index:
                raise InvalidImage(f"{image.digest} is an index of indexes, which no builder makes")
            _copy(inner, open_blob, into)
    elif image.is_manifest:
        manifest = decode(content, Manifest, image.digest)
        for part in (*manifest.layers, manifest.config):
            if not into.has(part):
                _copy_blob(part, open_blob, into)
    else:
        raise InvalidImage(f"{image.digest} of type {image.media_type[:100]!r} is not an image")
    into.add(content, image.media_type)


def _read(open_blob: OpenBlob, blob: Descriptor) -> bytes:
    """A document, verified."""
    with open_blob(blob) as file:
        content = file.read(LARGEST_DOCUMENT_BYTES)
    if sha256(content) != blob.digest:
        raise InvalidImage(f"{blob.digest} is not what it says: it was changed or cut off")
    return content


def _copy_blob(blob: Descriptor, open_blob: OpenBlob, into: Layout) -> None:
    with open_blob(blob) as file, into.new_blob() as new:
        while piece := file.read(_PIECE_BYTES):
            if new.size + len(piece) > blob.size:
                raise InvalidImage(f"{blob.digest} is larger than the {blob.size} bytes it says")
            new.write(piece)
        new.commit(blob.media_type, blob)
