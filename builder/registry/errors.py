"""What can go wrong with a registry, told apart as far as callers do; every message is one line for people."""

from __future__ import annotations


class RegistryError(RuntimeError):
    """A registry did not do what was asked. `status` is the HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotAuthorized(RegistryError):
    """Credentials are missing, wrong, or not enough (401, 403)."""


class NotInRegistry(RegistryError):
    """No such repository, tag, manifest or blob (404)."""


class RegistryUnreachable(RegistryError):
    """No connection: unknown name, refused, silent, or no trusted TLS."""


class TransferBroken(RegistryError):
    """A connection ended in the middle of an answer or a request; trying again may help."""
