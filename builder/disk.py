"""What makes files survive: durable writes, folders that are locked while somebody works in them, and their removal.

A lock here is a `flock` on the folder itself. The kernel drops it with the last process that holds it (children that
inherit the descriptor count), so whatever is unlocked and unfinished was left by a crash and can be swept away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER_MODE = 0o755
PASSABLE_MODE = 0o711
"""Of a folder through which functions, which may be other users, reach what they know the name of. It cannot be listed."""
PRIVATE_MODE = 0o700
FILE_MODE = 0o644
LOCK_MODE = 0o600  # who can open a file can hold its lock, and so stop everybody else
PROGRAM_MODE = 0o755
UNFINISHED = ".new-"
GRAVE = "gone-"
UNFINISHED_FOR_S = 3600.0


def make_folder(path: Path, mode: int) -> None:
    """Make the folder `path` unless it is there, and see to it that it has the `mode`, whatever the umask or its past."""
    path.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
    path.chmod(mode)


def write_durably(path: Path, content: bytes, mode: int = FILE_MODE) -> None:
    """Put `content` at `path` so that a crash at any point leaves either the old file or the new one, whole."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sweep_unfinished_files(folder: Path, now: float) -> None:
    """Remove what `write_durably` left in `folder` when it was killed: its files that are too old to be in the making."""
    for path in list(folder.glob(UNFINISHED + "*")):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < now - UNFINISHED_FOR_S:
                path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make every file and name below `folder` durable."""
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)  # noqa: PTH118  # thousands of files: no Path for each
            if not os.path.islink(path):  # noqa: PTH114
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        sync_folder(Path(parent))


@contextlib.contextmanager
def locked_folder(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Make `path` if need be and hold its lock; yields the descriptor, which a child may inherit to hold the lock too.

    Waits for whoever holds it now, after telling `on_wait`: callers bound their wait by the time limit of the whole build.
    """
    while True:
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # swept between the two lines
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def remove_unless_locked(path: Path, trash: Path, remove: Callable[[Path, Path], object] | None = None) -> bool:
    """Remove the folder `path` by way of `trash`, unless somebody works in it. Returns whether it is gone.

    `remove` is `remove_tree`, or `bury`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            (remove or remove_tree)(path, trash)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove_tree(path: Path, trash: Path) -> None:
    """Remove a folder so that nobody ever sees half of it under its own name: rename it into `trash`, then delete."""
    if path.parent != trash:
        path = bury(path, trash)
    shutil.rmtree(path, ignore_errors=True)  # what stays is swept at the next start


def bury(path: Path, trash: Path) -> Path:
    """Rename a folder into `trash`, which takes a moment however much it holds; return the folder there that has it."""
    grave = Path(tempfile.mkdtemp(dir=trash, prefix=GRAVE))
    path.rename(grave / path.name)
    return grave


def empty_trash(trash: Path) -> None:
    """Delete what was buried. Several may do so at a time."""
    for grave in list(trash.glob(f"{GRAVE}*")):
        shutil.rmtree(grave, ignore_errors=True)


@contextlib.contextmanager
def locked_file(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made if need be and never removed. For moments, not for builds."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, LOCK_MODE)
    try:
        if not shared:
            os.fchmod(descriptor, LOCK_MODE)  # it may be older than this rule
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def tree_size_bytes(folder: Path) -> int:
    """Return the sum of the sizes of all files below `folder`; links count as themselves."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118
    return total


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
