"""Signed callbacks: that one is from this platform, of this call, and not an old one sent again.

    X-Pinnace-Timestamp: 1767225600
    X-Pinnace-Signature: sha256=HEX

HEX is HMAC-SHA256, with the platform's callback secret, of `CALL-ID.STATUS.TIMESTAMP.` and the body, where call id and
status are those of the headers X-Call-Id and X-Function-Status. A receiver reckons it anew, compares in constant time, and
refuses a timestamp that is more than a few minutes old; each attempt has its own.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TIMESTAMP: Final = "X-Pinnace-Timestamp"
SIGNATURE: Final = "X-Pinnace-Signature"
SECRET_FILE: Final = "callback-secret"  # noqa: S105 - a file's name


class NoSecret(Exception):
    """The secret's file is empty or cannot be read; the message names it."""


class Seal:
    """A signature in the making: what is signed comes in pieces."""

    def __init__(self, secret: bytes, call_id: str, status: str, timestamp: int) -> None:
        self._hmac = hmac.new(secret, f"{call_id}.{status}.{timestamp}.".encode(), hashlib.sha256)

    def update(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        self._hmac.update(piece)

    def value(self) -> str:
        """Return the header's value."""
        return f"sha256={self._hmac.hexdigest()}"


def sign(secret: bytes, call_id: str, status: str, timestamp: int, body: Iterable[bytes]) -> str:
    """Return the signature of a body in pieces."""
    seal = Seal(secret, call_id, status, timestamp)
    for piece in body:
        seal.update(piece)
    return seal.value()


def load_secret(folder: Path, file: Path | None = None) -> bytes:
    """Return the secret: of `file` where one is named, else of `callback-secret` in `folder`, made for its owner only when
    it is not there. White space around it does not count. Reads and writes files. Raises NoSecret."""
    kept = file or folder / SECRET_FILE
    try:
        if file is None and not kept.exists():
            unfinished = kept.with_name(f".{kept.name}.new")
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
                new.write(secrets.token_hex(32))
                new.flush()
                os.fsync(new.fileno())
            unfinished.replace(kept)
        secret = kept.read_bytes().strip()
    except OSError as error:
        raise NoSecret(f"the callback secret {kept} cannot be used: {error.strerror}") from None
    if not secret:
        raise NoSecret(f"the callback secret {kept} is empty")
    return secret
