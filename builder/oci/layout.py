"""An OCI image layout: a folder of blobs by digest and an index of names, which `skopeo`, `umoci` and others read too.

    oci-layout         the format's version
    index.json         names → manifests; replaced as a whole, under the folder's lock
    blobs/sha256/HEX   layers, configurations, manifests
Blobs are written under another name and renamed when their digest is known, so that one under its own name is whole.
They are not synced one by one: whoever reads a blob checks its size, whoever sends it its digest, and one that a crash
of the machine left short is removed and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from builder.disk import FILE_MODE, PRIVATE_MODE, UNFINISHED, locked_folder, make_folder, sweep_unfinished_files, write_durably
from builder.oci.documents import (
    INDEX,
    LARGEST_DOCUMENT_BYTES,
    REF_NAME,
    Descriptor,
    Document,
    Index,
    InvalidImage,
    Manifest,
    decode,
    descriptor_of,
    encode,
    hex_of,
)

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
LAYOUT_VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_PIECE_BYTES = 1 << 20


class Layout:
    """The layout in the folder `root`, which is made unless it is there; processes may share it. `clock` gives Unix seconds."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self._clock = clock
        self._index = root / INDEX_FILE
        make_folder(root, PRIVATE_MODE)
        make_folder(self.blobs, PRIVATE_MODE)
        if not (root / LAYOUT_FILE).exists():
            write_durably(root / LAYOUT_FILE, LAYOUT_VERSION)

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self.blobs / hex_of(digest)

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is here, in its full size; note that it is wanted. One of another size is removed."""
        path = self.path(blob.digest)
        try:
            if path.stat().st_size == blob.size:
                os.utime(path, (self._clock(),) * 2)
                return True
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        return False

    def read(self, blob: Descriptor) -> bytes:
        """Return a small blob's content, verified. Raises InvalidImage: not here, too large, damaged (then it is removed)."""
        if blob.size > LARGEST_DOCUMENT_BYTES:
            raise InvalidImage(f"{blob.digest} says it has {blob.size} bytes; at most {LARGEST_DOCUMENT_BYTES} are read")
        path = self.path(blob.digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InvalidImage(f"{blob.digest} is not in {self.root}") from None
        if hashlib.sha256(content).hexdigest() != hex_of(blob.digest):
            self.discard(blob.digest)
            raise InvalidImage(f"{path} was damaged and has been removed: build or pull it again")
        return content

    def document(self, blob: Descriptor, kind: type[Document]) -> Document:
        """Return the document that `blob` points to. Raises InvalidImage."""
        return decode(self.read(blob), kind, blob.digest)

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """Keep `content` as a blob and return its descriptor."""
        descriptor = descriptor_of(content, media_type)
        if not self.has(descriptor):
            with self.new_blob() as blob:
                blob.write(content)
                blob.commit(media_type)
        return descriptor

    def new_blob(self) -> NewBlob:
        """A blob in the making; leave its context without `commit` and nothing stays."""
        return NewBlob(self)

    def discard(self, digest: str) -> None:
        """Remove a blob that is not what it should be."""
        self.path(digest).unlink(missing_ok=True)

    def contents(self) -> tuple[Descriptor, ...]:
        """Return what the index lists. Raises InvalidImage."""
        try:
            return decode(self._index.read_bytes(), Index, f"{self._index}").manifests
        except FileNotFoundError:
            return ()

    def names(self) -> dict[str, Descriptor]:
        """Return the named images."""
        return {m.annotations[REF_NAME]: m for m in self.contents() if m.annotations and REF_NAME in m.annotations}

    def find(self, name: str) -> Descriptor | None:
        """Return the image of that name, or None; also when it is no longer whole."""
        found = self.names().get(name)
        return found if found is not None and self.complete(found) else None

    def tag(self, name: str, image: Descriptor, referrers: tuple[Descriptor, ...] = ()) -> None:
        """Let `name` stand for `image`, and list what refers to it beside it."""
        entry = Descriptor(
            media_type=image.media_type,
            digest=image.digest,
            size=image.size,
            platform=image.platform,
            annotations={REF_NAME: name},
        )
        with self._locked():
            listed = [m for m in self.contents() if (m.annotations or {}).get(REF_NAME) != name]
            new = {m.digest for m in referrers}
            listed = [m for m in listed if m.digest not in new or REF_NAME in (m.annotations or {})]
            content = encode(Index(schema_version=2, media_type=INDEX, manifests=(*listed, entry, *referrers)))
            if not self._index.exists() or self._index.read_bytes() != content:
                write_durably(self._index, content)

    def untag(self, name: str) -> None:
        """Let `name` stand for nothing; what only it needed goes when it is collected."""
        with self._locked():
            listed = self.contents()
            kept = tuple(m for m in listed if (m.annotations or {}).get(REF_NAME) != name)
            if kept != listed:
                write_durably(self._index, encode(Index(schema_version=2, media_type=INDEX, manifests=kept)))

    def referrers(self, image: Descriptor) -> tuple[Descriptor, ...]:
        """Return the artifacts here that refer to the manifest `image`, such as its SBOM."""
        found = []
        for entry in self.contents():
            if entry.artifact_type and entry.is_manifest and self.has(entry):
                subject = self.document(entry, Manifest).subject
                if subject is not None and subject.digest == image.digest:
                    found.append(entry)
        return tuple(found)

    def reachable(self, image: Descriptor) -> Iterator[Descriptor]:
        """Yield everything that makes up the image, each thing before what names it. Raises InvalidImage."""
        if image.is_index:
            for inner in self.document(image, Index).manifests:
                yield from self.reachable(inner)
        elif image.is_manifest:
            manifest = self.document(image, Manifest)
            yield from manifest.layers
            yield manifest.config
        yield image

    def complete(self, image: Descriptor) -> bool:
        """Whether everything that makes up the image is here; note that it is wanted."""
        try:
            return self.has(image) and all([self.has(part) for part in self.reachable(image)])  # noqa: C419  # all are wanted
        except InvalidImage:
            return False

    def collect(self, before: float, most_bytes: float = math.inf) -> int:
        """Remove blobs that no listed image needs and nobody wanted since `before` (Unix seconds); return the bytes freed.

        The longest unwanted go first, until `most_bytes` are free. A list entry for an artifact whose subject is gone goes too.
        """
        freed = 0
        with self._locked():
            needed: set[str] = set()
            kept = []
            named = [m for m in self.contents() if REF_NAME in (m.annotations or {})]
            for image in named:
                with contextlib.suppress(InvalidImage):
                    needed.update(part.digest for part in self.reachable(image))
            for entry in self.contents():
                if REF_NAME not in (entry.annotations or {}):
                    subject = self.document(entry, Manifest).subject if entry.is_manifest and self.has(entry) else None
                    if subject is None or subject.digest not in needed:
                        continue
                    needed.update(part.digest for part in self.reachable(entry))
                kept.append(entry)
            if len(kept) != len(self.contents()):
                write_durably(self._index, encode(Index(schema_version=2, media_type=INDEX, manifests=tuple(kept))))
            for wanted_at, size, path in sorted(self._unlisted(needed)):
                if wanted_at < before and freed < most_bytes:
                    path.unlink(missing_ok=True)
                    freed += size
        sweep_unfinished_files(self.blobs, self._clock())
        return freed

    def _unlisted(self, needed: set[str]) -> Iterator[tuple[float, int, Path]]:
        """When it was last wanted, size and path of each whole blob whose digest is not in `needed`."""
        for path in list(self.blobs.iterdir()):
            if f"sha256:{path.name}" not in needed and not path.name.startswith(UNFINISHED):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    yield status.st_mtime, status.st_size, path

    def _locked(self) -> contextlib.AbstractContextManager[int]:
        return locked_folder(self.root)  # a file would be one that does not belong in a layout


class NewBlob:
    """A blob that is being written; a context manager. `write` takes pieces, `commit` gives it its name."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._path = Path()
        self.size = 0

    def __enter__(self) -> Self:
        descriptor, name = tempfile.mkstemp(dir=self._layout.blobs, prefix=UNFINISHED)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        """Add a piece at the end."""
        assert self._file is not None
        self._hash.update(piece)
        self._file.write(piece)
        self.size += len(piece)

    def commit(self, media_type: str, expected: Descriptor | None = None) -> Descriptor:
        """Give the blob its name and return its descriptor. Raises InvalidImage when it is not the one `expected`."""
        assert self._file is not None
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected is not None and (digest != expected.digest or self.size != expected.size):
            raise InvalidImage(
                f"what came is not {expected.digest} with {expected.size} bytes but {digest} with {self.size}: "
                "it was changed on its way, or the registry is wrong"
            )
        self._file.flush()
        os.fchmod(self._file.fileno(), FILE_MODE)
        self._path.rename(self._layout.path(digest))
        return Descriptor(media_type=media_type, digest=digest, size=self.size)
