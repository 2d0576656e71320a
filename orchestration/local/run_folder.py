"""The short folder for sockets: a Unix socket's path has at most 108 bytes, and data folders lie deep."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestration.local.failures import StorageError

LONGEST_PATH_BYTES = 100
LONGEST_NAME_BYTES = len("/ffffffffff.sock")


@contextlib.contextmanager
def run_folder(chosen: Path | None, instance: str) -> Iterator[Path]:
    """Make the folder, empty and closed to others, and remove it at the end. Raises StorageError.

    Without a `chosen` one: `pinnace-INSTANCE` in XDG_RUNTIME_DIR, else in /run or /dev/shm where that is in memory, else in
    /run, else in the folder for temporary files. Each start of a replica makes and removes a file, and on a disk ext4 looks
    past all that were removed in the last minutes to make another.
    """
    path = chosen.absolute() if chosen is not None else _choose(f"pinnace-{instance}")
    if len(os.fsencode(path)) + LONGEST_NAME_BYTES > LONGEST_PATH_BYTES:
        raise StorageError(f"the folder for sockets, {path}, has too long a name: choose a shorter one")
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0:
            path.chmod(0o711)  # functions may have to pass to their secrets; what is in it is closed to them
    except OSError as error:
        raise StorageError(f"the folder for sockets, {path}, cannot be made: {error.strerror}") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _choose(name: str) -> Path:
    in_memory = [parent for parent in ("/run", "/dev/shm") if _is_in_memory(parent)]  # noqa: S108 - made anew, and closed
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), *in_memory, "/run", tempfile.gettempdir()):
        if parent and os.access(parent, os.W_OK | os.X_OK) and len(parent) + len(name) < LONGEST_PATH_BYTES - 20:
            return Path(parent) / name
    raise StorageError("no folder for sockets can be made: XDG_RUNTIME_DIR, /run and the folder for temporary files are closed")


def _is_in_memory(path: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether a file system in memory is mounted at `path` itself (proc(5), /proc/PID/mountinfo)."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    kinds = [
        after.split(" ", 1)[0] for line in lines for before, _, after in [line.partition(" - ")] if before.split(" ")[4] == path
    ]
    return bool(kinds) and kinds[-1] == "tmpfs"
