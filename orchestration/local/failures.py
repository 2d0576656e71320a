"""What can go wrong with the place where state lives. Every message is one line that a person can act on."""

from __future__ import annotations

from orchestration.orchestrator import Unavailable


class StorageError(Unavailable):
    """The data folder cannot be used, or did not take a change; what was acknowledged before is still there."""


class DataFolderLocked(StorageError):
    """Another platform uses the data folder; the message holds its pid."""


class StorageFull(StorageError):
    """The disk is full; nothing was changed."""


class Conflict(StorageError):
    """A change contradicts what another one wrote at the same time; nothing was changed."""


class NewerSchema(StorageError):
    """The data folder was written by a newer version of the platform."""


class Unreachable(Exception):
    """Functions' users cannot reach the interpreter or the data folder here; the message says what would help."""
