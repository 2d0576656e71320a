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
import os
import time
from collections.abc import Callable, Iterator, Mapping
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

GRACE_S = 14 * 24 * 3600.0
COLLECT_EVERY_S = 24 * 3600.0


class _Made(msgspec.Struct, frozen=True):
    blob: Descriptor
    diff_id: str


class ImageStore:
    """The folders below `root`; processes may share them. `clock` gives Unix seconds."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.root = root
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
        """Remove what no named image needs and nobody wanted for `grace_s` before `now` (Unix seconds); return bytes freed."""
        for folder in list(self._incoming.iterdir()):
            remove_unless_locked(folder, self._incoming)
        freed = self.layout.collect(now - grace_s)
        for folder in (self._made, self.bases, self.locks, self.wheels):
            for path in list(folder.rglob("*")) if folder.exists() else ():
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if status.st_mtime < now - grace_s and path.is_file():
                        path.unlink()
                        freed += status.st_size
        return freed

    def collect_sometimes(self) -> int:
        """Collect when the last time was over a day ago."""
        stamp, now = self.root / "collected", self._clock()
        with contextlib.suppress(FileNotFoundError):
            if stamp.stat().st_mtime > now - COLLECT_EVERY_S:
                return 0
        stamp.touch()
        os.utime(stamp, (now, now))
        return self.collect(now)


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the command line keeps images: `PINNACE_IMAGES`, else `pinnace/oci` in the user's cache folder (XDG)."""
    if given := environment.get("PINNACE_IMAGES"):
        return Path(given).expanduser()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pinnace" / "oci"
