"""A platform's data folder as one file, and back."""

from __future__ import annotations

from pathlib import Path

from cli.process import CannotServe
from orchestration.local import backup as local
from orchestration.local.failures import StorageError


def backup(data_dir: Path, file: Path) -> int:
    """Write the data folder to a tar file; return its size in bytes. Raises CannotServe."""
    try:
        return local.backup(data_dir, file)
    except StorageError as error:
        raise CannotServe(str(error)) from None


def restore(file: Path, data_dir: Path) -> tuple[int, tuple[str, ...]]:
    """Make a data folder from a backup; return how many files it has and what needs attention. Raises CannotServe."""
    try:
        restored = local.restore(file, data_dir)
    except StorageError as error:
        raise CannotServe(str(error)) from None
    return restored.files, restored.warnings
