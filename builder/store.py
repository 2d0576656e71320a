"""The store of bundles on this machine: which exist, which image name stands for which, and which may go.

    images/HASH.json    an image name and the digest of its bundle; the last build of the name wins
    bundles/HEX.json    a bundle; its modification time is when it was last published or resolved
    layers/             the folders that bundles are made of (`builder.layers`)
    locks/              what requirements came to when they were resolved (`builder.dependencies`)
    wheels/             downloaded wheels, so that a layer can be made again without a network

A bundle is published after its layers are complete, and a name after its bundle: whatever a crash interrupts, names
and bundles that can be seen are whole. A bundle goes when no revision uses it and nobody has asked for it during a
grace, because between a build and the deploy that uses it lie seconds in which nothing refers to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from builder.disk import PRIVATE_MODE, make_folder, sweep_unfinished_files, write_durably
from builder.images import InvalidImageName, image_digest, image_name, split_name
from builder.layers import LayerStore
from builder.registry.reference import has_registry
from orchestration.bundle import Bundle, Layer, UnknownBundle

DEFAULT_QUOTA_BYTES = 10 * 1024**3
GRACE_S = 24 * 3600.0
LOCK_GRACE_S = 90 * 24 * 3600.0  # small, and what makes a build next month come to the same versions
PRESSED_GRACE_S = 15 * 60.0  # kept even when the quota is reached: longer than any build, and a deploy follows within seconds


class BundleQuotaExceeded(RuntimeError):
    """A build needs more room than the quota leaves; the message says how much is used and what to do."""


class Collected(msgspec.Struct, frozen=True):
    """What a collection removed: digests of bundles and of layers, and the bytes that are free again."""

    bundles: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    freed_bytes: int = 0


class _ImageRecord(msgspec.Struct, frozen=True):
    name: str
    bundle: str
    pulled: str | None = None


class BundleStore:
    """Implements `orchestration.bundle.BundleSource` below the folder `root`; processes may share it.

    `clock` gives Unix seconds. All calls read or write the disk: run them in a thread.
    """

    def __init__(self, root: Path, quota_bytes: int = DEFAULT_QUOTA_BYTES, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self.wheels = root / "wheels"
        self.locks = root / "locks"
        self._images = root / "images"
        self._bundles = root / "bundles"
        self._clock = clock
        self.layers = LayerStore(root, clock)
        for folder in (self._images, self._bundles, self.wheels, self.locks):
            make_folder(folder, PRIVATE_MODE)

    def resolve(self, image: str) -> Bundle:
        """Return the bundle that the image name (or a digest) stands for now, and note that it is wanted.

        Raises UnknownBundle, which says how to build it.
        """
        with self.layers.lock(shared=True):  # so that no collection happens between looking and noting
            for digest in (image_digest(image), self._named(image)):
                if digest is not None and (bundle := self._read(digest)) is not None:
                    os.utime(self._record(digest), (self._clock(),) * 2)
                    return bundle
        raise UnknownBundle(
            f"there is no bundle for image {image!r} on this gateway: build it with `faas deploy`, "
            "or with `faas-cli publish --remote-builder URL --payload-secret FILE`"
            + ("; images are pulled from the gateway's --registries only" if has_registry(image) else "")
        )

    def folder(self, layer: Layer) -> Path:
        """Return the folder that holds the layer's files."""
        return self.layers.path(layer.digest)

    def images(self) -> dict[str, str]:
        """Return the digest of each named bundle by its full image name."""
        records = [msgspec.json.decode(path.read_bytes(), type=_ImageRecord) for path in self._images.glob("*.json")]
        return {record.name: record.bundle for record in sorted(records, key=lambda record: record.name)}

    def pulled(self, image: str) -> str | None:
        """Return the digest in its registry of the image that the name's bundle was pulled from; None for one built here."""
        record = self._image(image)
        return record.pulled if record is not None else None

    def publish(self, image: str, bundle: Bundle, pulled: str | None = None) -> None:
        """Keep the bundle, whose layers are complete, and let the image name stand for it from now on.

        `pulled` is the digest of the image in a registry that it came from; only then may the name have a digest. Raises
        images.InvalidImageName, and UnknownBundle when a layer is not there.
        """
        name = _key(image) if pulled else image_name(image)
        with self.layers.lock():
            for layer in bundle.layers:
                if self.layers.find(layer.digest) is None:
                    raise UnknownBundle(f"layer {layer.digest} of {image!r} is not in the store: build it again")
            record = self._record(bundle.digest)
            if not record.exists():
                write_durably(record, msgspec.json.encode(bundle))
            os.utime(record, (self._clock(),) * 2)
            write_durably(self._image_record(name), msgspec.json.encode(_ImageRecord(name, bundle.digest, pulled)))

    def usage_bytes(self) -> int:
        """Return what all layers and cached wheels take."""
        return sum(layer.size_bytes for layer, _ in self.layers.all()) + sum(size for _, _, size in self._cached_wheels())

    def collect(self, in_use: Collection[str], now: float, grace_s: float = GRACE_S) -> Collected:
        """Remove what no bundle in `in_use` (digests) needs and nobody wanted for `grace_s` before `now` (Unix seconds).

        That is bundles, the names that stood for them, layers that no bundle is left to need, and cached wheels; locks
        of requirements after LOCK_GRACE_S.
        """
        with self.layers.lock():
            old = [digest for digest, wanted_at in self._unused(in_use) if wanted_at <= now - grace_s]
            collected = self._remove(old, now - grace_s)
        self.layers.empty_trash()
        for path in list(self.locks.rglob("*.json")):
            if path.stat().st_mtime <= now - LOCK_GRACE_S:
                path.unlink()
        freed = collected.freed_bytes + self._forget_wheels(now - grace_s)
        return msgspec.structs.replace(collected, freed_bytes=freed)

    def make_room(self, needed_bytes: int, in_use: Collection[str], now: float) -> None:
        """See to it that `needed_bytes` more fit in the quota: cached wheels go first, then unused bundles, oldest first.

        Raises BundleQuotaExceeded when that is not enough.
        """
        allowed = self.quota_bytes - needed_bytes
        if self.usage_bytes() <= allowed:
            return
        before = now - PRESSED_GRACE_S
        self._forget_wheels(before)
        with self.layers.lock():
            self._remove([], before)
            for digest, wanted_at in self._unused(in_use):
                if self.usage_bytes() <= allowed:
                    break
                if wanted_at <= before:
                    self._remove([digest], before)
        self.layers.empty_trash()
        if (used := self.usage_bytes()) > allowed:
            raise BundleQuotaExceeded(
                f"bundles use {_in_words(used)} of their quota of {_in_words(self.quota_bytes)} and this build needs "
                f"{_in_words(needed_bytes)}: remove functions that are not needed (faas remove NAME) or raise the quota"
            )

    def sweep(self) -> None:
        """Remove what builds that were killed left half-made. Harmless while others build."""
        self.layers.sweep()
        for folder in (self._images, self._bundles, self.wheels, self.locks):
            sweep_unfinished_files(folder, self._clock())

    def _unused(self, in_use: Collection[str]) -> list[tuple[str, float]]:
        """Bundles that no revision uses, with the time they were last wanted, oldest first."""
        used = set(in_use)
        found = [(f"sha256:{path.stem}", path.stat().st_mtime) for path in self._bundles.glob("*.json")]
        return sorted(((digest, at) for digest, at in found if digest not in used), key=lambda entry: entry[1])

    def _remove(self, bundles: list[str], layers_before: float) -> Collected:
        """Remove bundles and their names, and the layers that are then needed by none and not wanted since `layers_before`.

        The caller holds the layers' lock, and empties their trash when it no longer does.
        """
        for path in list(self._images.glob("*.json")):
            if msgspec.json.decode(path.read_bytes(), type=_ImageRecord).bundle in bundles:
                path.unlink()
        for digest in bundles:
            self._record(digest).unlink()
        kept = (msgspec.json.decode(path.read_bytes(), type=Bundle) for path in self._bundles.glob("*.json"))
        needed = {layer.digest for bundle in kept for layer in bundle.layers}
        gone = [layer for layer, at in self.layers.all() if layer.digest not in needed and at <= layers_before]
        for layer in gone:
            self.layers.remove(layer.digest)
        return Collected(tuple(bundles), tuple(layer.digest for layer in gone), sum(layer.size_bytes for layer in gone))

    def _forget_wheels(self, before: float) -> int:
        freed = 0
        for path, wanted_at, size in self._cached_wheels():
            if wanted_at <= before:
                path.unlink(missing_ok=True)
                freed += size
        return freed

    def _cached_wheels(self) -> Iterator[tuple[Path, float, int]]:
        for path in list(self.wheels.rglob("*.whl")):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield path, status.st_mtime, status.st_size

    def _named(self, image: str) -> str | None:
        record = self._image(image)
        return record.bundle if record is not None else None

    def _image(self, image: str) -> _ImageRecord | None:
        try:
            return msgspec.json.decode(self._image_record(_key(image)).read_bytes(), type=_ImageRecord)
        except (InvalidImageName, FileNotFoundError):
            return None

    def _read(self, digest: str) -> Bundle | None:
        try:
            return msgspec.json.decode(self._record(digest).read_bytes(), type=Bundle)
        except FileNotFoundError:
            return None

    def _record(self, digest: str) -> Path:
        return self._bundles / f"{digest.removeprefix('sha256:')}.json"

    def _image_record(self, name: str) -> Path:
        return self._images / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _key(image: str) -> str:
    """The one form of a name under which it is kept; a digest in it counts alone, whatever the tag before it."""
    name, _, digest = split_name(image)
    return f"{name}@{digest}" if digest else image_name(image)


def _in_words(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
