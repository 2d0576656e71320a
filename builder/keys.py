"""The gateway's key pair for build secrets: clients encrypt to the public half (NaCl box), which `GET /publickey` gives."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from builder.disk import UNFINISHED, sync_folder

if TYPE_CHECKING:
    from nacl.public import PrivateKey

ALGORITHM = "nacl/box"
KEY_ID_CHARACTERS = 8
KEY_FILE = "builder.key"


class PublicKey(msgspec.Struct, frozen=True):
    """`public_key` is 32 bytes in standard base64; `key_id` its first 8 characters, as clients quote it."""

    key_id: str
    algorithm: str
    public_key: str


class BuilderKey:
    """The key pair in the folder `root`: one file, mode 0600, the private half in base64; made when first asked for."""

    def __init__(self, root: Path) -> None:
        self._file = root / KEY_FILE
        self._public: PublicKey | None = None

    def public(self) -> PublicKey:
        """Return the public half. The first call reads or writes the disk; anybody may ask, so the others cost nothing."""
        if self._public is None:
            text = base64.b64encode(bytes(self.private().public_key)).decode()
            self._public = PublicKey(key_id=text[:KEY_ID_CHARACTERS], algorithm=ALGORITHM, public_key=text)
        return self._public

    def private(self) -> PrivateKey:
        """Return the private half, made now if there is none."""
        from nacl.public import PrivateKey  # 40 ms and a native library, for the few who encrypt build secrets

        try:
            return PrivateKey(base64.b64decode(self._file.read_bytes()))
        except FileNotFoundError:
            self._make(base64.b64encode(bytes(PrivateKey.generate())))
        return PrivateKey(base64.b64decode(self._file.read_bytes()))

    def _make(self, content: bytes) -> None:
        """Put the key at its place unless somebody else just did. Nobody waits: anybody may ask for the public half."""
        descriptor, name = tempfile.mkstemp(dir=self._file.parent, prefix=UNFINISHED)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                self._file.hardlink_to(name)
        finally:
            Path(name).unlink()
        sync_folder(self._file.parent)
