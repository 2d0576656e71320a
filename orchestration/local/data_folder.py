"""The folder that holds all state, and the lock that makes it one platform's."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestration.local.failures import DataFolderLocked, StorageError


def holder(path: Path) -> str:
    """Return the pid of the platform that uses the data folder, `?` if it is not known, empty when none does."""
    try:
        fd = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 32, 0).decode(errors="replace").strip() or "?"
    else:
        return ""
    finally:
        os.close(fd)


class DataFolder:
    """The data folder while this process holds its lock; as a context manager it lets go of it.

    Raises DataFolderLocked, and StorageError where the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Functions run as users of their own and have to pass through to their layers; what is secret is 0600.
            path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"the data folder {path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            by = f"process {holder}" if holder else "another process"
            raise DataFolderLocked(
                f"the data folder {path} is in use by {by}: stop it, or choose another with --data-dir"
            ) from None
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            self.replicas.mkdir(exist_ok=True)
            self.replicas.chmod(0o711)  # whatever the umask says
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            os.close(self._lock)
            raise StorageError(f"the data folder {path} cannot be written: {error.strerror}") from None

    @property
    def state(self) -> Path:
        return self.path / "state.db"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.db"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def replicas(self) -> Path:
        """Holds one folder for each live replica: its /tmp."""
        return self.path / "replicas"

    def clear_replicas(self) -> None:
        """Remove what replicas of an earlier platform left. Blocks."""
        for path in self.replicas.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._lock)
