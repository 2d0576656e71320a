"""A request's body that may be larger than memory should hold: in memory while it is small, then in a file.

The file has no name, so that nothing is left of it whatever happens to this process.
"""

from __future__ import annotations

import os

IN_MEMORY_BYTES = 256 * 1024


class File:
    """A body in a file: its descriptor and size. Whoever gets it closes it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:  # of a client that left in the middle
        self.close()


class Spool:
    """Collects a body piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._file: File | None = None

    def append(self, piece: bytes) -> None:
        """Add the next bytes. Raises OSError when the disk is full."""
        if self._file is None:
            self._pieces.append(piece)
            self._bytes += len(piece)
            if self._bytes <= IN_MEMORY_BYTES:
                return
            self._file = File(_nameless_file(os.environ.get("TMPDIR") or "/tmp"))  # noqa: S108
            piece = b"".join(self._pieces)
            self._pieces.clear()
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._file.fd, rest) :]
        self._file.size += len(piece)

    def whole(self) -> bytes | File:
        """Return the body; a file is the caller's from now on."""
        return b"".join(self._pieces) if self._file is None else self._file


def _nameless_file(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError:  # the file system has no such files (open(2), O_TMPFILE)
        name = os.path.join(folder, f".body-{os.urandom(8).hex()}")
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(name)
        return fd
