"""Signed callbacks: that one is from this platform, of this call, and not an old one sent again.

    X-Pinnace-Timestamp: 1767225600
    X-Pinnace-Signature: sha256=HEX

HEX is HMAC-SHA256, with the callback's key, of `CALL-ID.STATUS.TIMESTAMP.` and the body, where call id and status are those of
the headers X-Call-Id and X-Function-Status. A receiver reckons it anew, compares in constant time, and refuses a timestamp
that is more than a few minutes old; each attempt has its own. While keys are changed there is one for each, separated by
spaces (as Standard Webhooks has it): one that fits is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from builder.disk import write_durably
from gateway.callbacks.keys import NoSecret, keys_of

TIMESTAMP: Final = "X-Pinnace-Timestamp"
SIGNATURE: Final = "X-Pinnace-Signature"
SECRET_FILE: Final = "callback-secret"  # noqa: S105 - a file's name


class Seal:
    """Signatures in the making, one with each key: what is signed comes in pieces."""

    def __init__(self, keys: Iterable[bytes], call_id: str, status: str, timestamp: int) -> None:
        begin = f"{call_id}.{status}.{timestamp}.".encode()
        self._signing = [hmac.new(key, begin, hashlib.sha256) for key in keys]

    def update(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        for signing in self._signing:
            signing.update(piece)

    def value(self) -> str:
        """Return the header's value."""
        return " ".join(f"sha256={signing.hexdigest()}" for signing in self._signing)


def sign(keys: Iterable[bytes], call_id: str, status: str, timestamp: int, body: Iterable[bytes]) -> str:
    """Return the signatures of a body in pieces."""
    seal = Seal(keys, call_id, status, timestamp)
    for piece in body:
        seal.update(piece)
    return seal.value()


def load_secret(folder: Path, file: Path | None = None) -> tuple[bytes, ...]:
    """Return the platform's own keys: of `file` where one is named, else of `callback-secret` in `folder`, made for its owner
    only when it is not there. Reads and writes files. Raises NoSecret."""
    kept = file or folder / SECRET_FILE
    try:
        if file is None and not kept.exists():
            write_durably(kept, secrets.token_hex(32).encode(), 0o600)
        secret = kept.read_bytes()
    except OSError as error:
        raise NoSecret(f"the callback secret {kept} cannot be used: {error.strerror}") from None
    return keys_of(secret, f"the callback secret {kept}")
