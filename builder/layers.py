"""Layers as folders, one for each digest: `layers/HEX/` holds the files, `layers/HEX.json` says that they are complete.

Runtime and code layers are made in a staging folder, get the digest of their content and move into place. Dependency
layers hold absolute paths (a venv), so they are made at their final place, under a lock, and their digest is that of
the lock file they were installed from. In both cases the small JSON file is written last: a folder without it is
half-made. Its modification time is when the layer was last wanted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from builder.disk import (
    FILE_MODE,
    FOLDER_MODE,
    PASSABLE_MODE,
    PRIVATE_MODE,
    PROGRAM_MODE,
    bury,
    empty_trash,
    locked_file,
    locked_folder,
    make_folder,
    remove_tree,
    remove_unless_locked,
    sweep_unfinished_files,
    sync_folder,
    sync_tree,
    tree_size_bytes,
    write_durably,
)
from orchestration.bundle import Layer, LayerKind

COMPILED = "__pycache__"


class LayerStore:
    """Owns `layers/` and `incoming/` below `root`. Several processes may use the same folders at a time."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._layers = root / "layers"
        self._incoming = root / "incoming"
        self._lock = root / "store.lock"
        self._clock = clock
        make_folder(self._layers, PASSABLE_MODE)  # names are hashes of content: who has the code already can guess them
        make_folder(self._incoming, PRIVATE_MODE)

    def lock(self, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """The lock under which layers, bundles and names come and go. It is held for moments only."""
        return locked_file(self._lock, shared=shared)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A new folder on the disk of the layers, for as long as the context lasts."""
        path = self._incoming / os.urandom(8).hex()
        with locked_folder(path):
            try:
                yield path
            finally:
                remove_tree(path, self._incoming)

    def path(self, digest: str) -> Path:
        """Where the layer's folder is, or would be."""
        return self._layers / _hex(digest)

    def find(self, digest: str) -> Layer | None:
        """Return the complete layer of that digest and note that it is wanted, or None."""
        record = self._record(digest)
        try:
            content = record.read_bytes()
            os.utime(record, (self._clock(),) * 2)
        except FileNotFoundError:
            return None
        return msgspec.json.decode(content, type=Layer)

    def adopt(self, kind: LayerKind, digest: str, staged: Path) -> Layer:
        """Move the folder `staged`, which lies in `staging()`, into place as the layer `digest`, durable and world-readable."""
        _open_to_all(staged)
        sync_tree(staged)
        with self.lock():
            if layer := self.find(digest):
                return layer
            place = self.path(digest)
            if place.exists():  # moved here by somebody who crashed before the next lines
                remove_tree(place, self._incoming)
            staged.rename(place)
            sync_folder(self._layers)
            return self.complete(kind, digest)

    @contextlib.contextmanager
    def in_place(self, digest: str, on_wait: Callable[[], None] | None = None) -> Iterator[tuple[Path, int]]:
        """Hold the folder of the layer `digest` to make it where it will stay; yields it empty, with its lock's descriptor.

        Check `find` again inside: whoever held the lock before may have completed the layer. Then it is not emptied. A layer
        that is left unfinished by an exception goes, and nobody ever sees it.
        """
        place = self.path(digest)
        with locked_folder(place, on_wait) as descriptor:
            if not self._record(digest).exists():
                for leftover in list(place.iterdir()):
                    if leftover.is_dir() and not leftover.is_symlink():
                        remove_tree(leftover, self._incoming)
                    else:
                        leftover.unlink()
                place.chmod(FOLDER_MODE)
            try:
                yield place, descriptor
            except BaseException:
                if not self._record(digest).exists():
                    remove_tree(place, self._incoming)  # whoever waits for its lock makes it anew
                raise

    def complete(self, kind: LayerKind, digest: str) -> Layer:
        """Say that the layer's folder is all there, and return the layer."""
        layer = Layer(kind, digest, tree_size_bytes(self.path(digest)))
        record = self._record(digest)
        write_durably(record, msgspec.json.encode(layer))
        os.utime(record, (self._clock(),) * 2)
        return layer

    def all(self) -> Iterator[tuple[Layer, float]]:
        """Every complete layer with the Unix second at which it was last wanted."""
        for record in self._layers.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                yield msgspec.json.decode(record.read_bytes(), type=Layer), record.stat().st_mtime

    def remove(self, digest: str) -> None:
        """Take a layer away; `empty_trash` deletes its files. The caller holds `lock()`, which deploys wait for."""
        self._record(digest).unlink(missing_ok=True)
        remove_unless_locked(self.path(digest), self._incoming, bury)

    def empty_trash(self) -> None:
        """Delete the files of removed layers: a second for 50,000 of them, so not under `lock()`."""
        empty_trash(self._incoming)

    def sweep(self) -> None:
        """Remove what a crash left half-made. Work in progress, of this or another process, is locked and stays."""
        for folder in list(self._incoming.iterdir()):
            remove_unless_locked(folder, self._incoming)
        for entry in list(self._layers.iterdir()):
            if entry.is_dir() and not self._layers.joinpath(entry.name + ".json").exists():
                remove_unless_locked(entry, self._incoming)
        sweep_unfinished_files(self._layers, self._clock())

    def _record(self, digest: str) -> Path:
        return self._layers / f"{_hex(digest)}.json"


def folder_digest(folder: Path) -> str:
    """Return `sha256:HEX` over what lies in `folder`: sorted paths, kinds, executable bits, link targets and contents.

    Compiled Python (`__pycache__`) follows from the rest and is left out; so are times and owners.
    """
    digest = hashlib.sha256()
    for path, relative in sorted(_walk(folder), key=lambda entry: entry[1]):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            kind, content = b"link", hashlib.sha256(os.fsencode(Path(path).readlink())).digest()
        elif stat.S_ISDIR(status.st_mode):
            kind, content = b"folder", b""
        else:
            kind = b"program" if status.st_mode & stat.S_IXUSR else b"file"
            with open(path, "rb") as file:  # noqa: PTH123
                content = hashlib.file_digest(file, "sha256").digest()
        digest.update(b"%s\0%s\0%s\n" % (kind, relative, content.hex().encode()))
    return f"sha256:{digest.hexdigest()}"


def _walk(folder: Path) -> Iterator[tuple[str, bytes]]:
    pending = [(os.fspath(folder), b"")]
    while pending:
        parent, prefix = pending.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.name == COMPILED:
                    continue
                relative = prefix + os.fsencode(entry.name)
                yield entry.path, relative
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, relative + b"/"))


def _open_to_all(folder: Path) -> None:
    folder.chmod(FOLDER_MODE)
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)  # noqa: PTH118
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                os.chmod(path, FOLDER_MODE)  # noqa: PTH101
            elif stat.S_ISREG(mode):
                os.chmod(path, PROGRAM_MODE if mode & stat.S_IXUSR else FILE_MODE)  # noqa: PTH101


def _hex(digest: str) -> str:
    algorithm, _, text = digest.partition(":")
    if algorithm != "sha256" or len(text) != 64 or not all(c in "0123456789abcdef" for c in text):
        raise ValueError(f"{digest!r} is not a digest such as sha256:HEX")
    return text
