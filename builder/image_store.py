"""Where images are kept on this machine: a layout of blobs, and what was once found out about them.

    layout/            an OCI layout: images by name, blobs by digest
    layout/bases/      what a base image's name stood for when it was pulled, and what is in it
    made/HEX.json      which blob came of which inputs, so that no layer is made or compressed twice
    wheels/, locks/    as in `builder.wheelhouse`
    incoming/          work under way

Everything but the named images can be made again: it goes when nobody has wanted it for a while.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from builder.build_secrets import NO_SECRETS, BuildSecrets
from builder.disk import PRIVATE_MODE, locked_folder, make_folder, remove_tree, remove_unless_locked, write_durably
from builder.oci.archive import LayerBlob
from builder.oci.documents import Descriptor
from builder.oci.layout import Layout
from builder.wheelhouse import Wheelhouse

Value = TypeVar("Value")

DEFAULT_QUOTA_BYTES = 10 * 1024**3
GRACE_S = 14 * 24 * 3600.0
LOCK_GRACE_S = 90 * 24 * 3600.0  # small, and what makes a build next month come to the same versions
PRESSED_GRACE_S = 15 * 60.0  # kept even when the quota is reached: longer than any build
COLLECT_EVERY_S = 24 * 3600.0


class _Made(msgspec.Struct, frozen=True):
    blob: Descriptor
    diff_id: str


class ImageStore:
    """The folders below `root`; processes may share them. `clock` gives Unix seconds.

    What can be made again takes at most `quota_bytes` after a collection.
    """

    def __init__(self, root: Path, quota_bytes: int = DEFAULT_QUOTA_BYTES, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self.wheels = root / "wheels"
        self.locks = root / "locks"
        self._clock = clock
        self._made = root / "made"
        self._incoming = root / "incoming"
        make_folder(root, PRIVATE_MODE)
        self.layout = Layout(root / "layout", clock)
        self.bases = self.layout.root / "bases"
        for folder in (self._made, self._incoming, self.bases):
            make_folder(folder, PRIVATE_MODE)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A new folder on the store's disk, for as long as the context lasts."""
        path = self._incoming / os.urandom(8).hex()
        with locked_folder(path):
            try:
                yield path
            finally:
                remove_tree(path, self._incoming)

    def knows(self, inputs: object) -> bool:
        """Whether the layer that `inputs` stand for is here, so that it need not be made."""
        return self._found(inputs) is not None

    def layer(self, inputs: object, make: Callable[[], LayerBlob]) -> tuple[LayerBlob, bool]:
        """Return the layer that `inputs` (JSON, everything that its bytes depend on) stand for, and whether it was made now."""
        if layer := self._found(inputs):
            return layer, False
        layer = make()
        write_durably(self._record(inputs), msgspec.json.encode(_Made(layer.blob, layer.diff_id)))
        return layer, True

    def remembered(self, inputs: object, kind: type[Value], make: Callable[[], Value]) -> Value:
        """Return the small value of type `kind` (JSON) that follows from `inputs`, made now if it is not kept."""
        record = self._record(inputs)
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            value = msgspec.json.decode(record.read_bytes(), type=kind)
            os.utime(record, (self._clock(),) * 2)
            return value
        value = make()
        write_durably(record, msgspec.json.encode(value))
        return value

    def recalls(self, inputs: object) -> bool:
        """Whether the value that follows from `inputs` is kept."""
        return self._record(inputs).exists()

    def _found(self, inputs: object) -> LayerBlob | None:
        record = self._record(inputs)
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            made = msgspec.json.decode(record.read_bytes(), type=_Made)
            if self.layout.has(made.blob):
                os.utime(record, (self._clock(),) * 2)
                return LayerBlob(made.blob, made.diff_id)
        return None

    def _record(self, inputs: object) -> Path:
        key = hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()
        return self._made / f"{key}.json"

    def wheelhouse(
        self, log: Callable[[str], None], *, offline: bool = False, secrets: BuildSecrets = NO_SECRETS
    ) -> Wheelhouse:
        """Return the wheels that images are made of; `log` gets pip's output. What `secrets` give access to is kept apart."""
        return Wheelhouse(
            self.wheels / secrets.place,
            self.locks / secrets.place,
            self.staging,
            log,
            offline=offline,
            variables=dict(secrets.variables),
        )

    def collect(self, now: float, grace_s: float = GRACE_S) -> int:
        """Remove what no named image needs and nobody wanted for `grace_s` before `now` (Unix seconds); return bytes freed.

        Over the quota, what was wanted least lately goes sooner. Locks of requirements stay for LOCK_GRACE_S.
        """
        for folder in list(self._incoming.iterdir()):
            remove_unless_locked(folder, self._incoming)
        freed = self.layout.collect(now - grace_s) + _remove(self._files(self.locks), now - LOCK_GRACE_S)
        freed += _remove(
            [entry for folder in (self._made, self.bases, self.wheels) for entry in self._files(folder)], now - grace_s
        )
        over = self._usage_bytes() - self.quota_bytes
        if over > 0:
            freed += _remove(sorted(self._files(self.wheels)), now - PRESSED_GRACE_S, over)
        over = self._usage_bytes() - self.quota_bytes
        if over > 0:
            freed += self.layout.collect(now - PRESSED_GRACE_S, over)
        return freed

    def _usage_bytes(self) -> int:
        return sum(size for folder in (self.wheels, self.layout.blobs) for _, size, _ in self._files(folder))

    def _files(self, folder: Path) -> Iterator[tuple[float, int, Path]]:
        """When it was last wanted, size and path of each file below `folder`."""
        for path in list(folder.rglob("*")) if folder.exists() else ():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.is_file():
                    yield status.st_mtime, status.st_size, path

    def collect_sometimes(self) -> int:
        """Collect when the last time was over a day ago."""
        stamp, now = self.root / "collected", self._clock()
        with contextlib.suppress(FileNotFoundError):
            if stamp.stat().st_mtime > now - COLLECT_EVERY_S:
                return 0
        stamp.touch()
        os.utime(stamp, (now, now))
        return self.collect(now)


def _remove(files: Iterable[tuple[float, int, Path]], before: float, most_bytes: float = math.inf) -> int:
    """Remove files that were last wanted before that moment, in order, until `most_bytes` are free; return the bytes freed."""
    freed = 0
    for wanted_at, size, path in files:
        if freed < most_bytes and wanted_at < before:
            path.unlink(missing_ok=True)
            freed += size
    return freed


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the command line keeps images: `PINNACE_IMAGES`, else `pinnace/oci` in the user's cache folder (XDG)."""
    if given := environment.get("PINNACE_IMAGES"):
        return Path(given).expanduser()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pinnace" / "oci"
