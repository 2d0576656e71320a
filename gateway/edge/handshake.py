"""Both ends of a link prove to each other that they know one secret, without sending it.

HMAC-SHA-256 over who speaks and both sides' nonces: an answer can be neither replayed nor reflected.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

HUB: Final = b"hub"
MEMBER: Final = b"member"
LEAST_SECRET_BYTES: Final = 16


class UnfitSecret(ValueError):
    """The secret is too short to be one."""


def check_secret(secret: bytes) -> bytes:
    """Return the secret without white space around it. Raises UnfitSecret."""
    if len(secret := secret.strip()) < LEAST_SECRET_BYTES:
        raise UnfitSecret(f"{len(secret)} bytes; {LEAST_SECRET_BYTES} at least, as `openssl rand -hex 32` makes")
    return secret


def nonce() -> bytes:
    """Return what an end makes up for one link."""
    return secrets.token_bytes(32)


def proof(secret: bytes, side: bytes, own: bytes, other: bytes) -> bytes:
    """Return the proof of the end that is `side` and made up the nonce `own`, for the one that made up `other`."""
    return hmac.digest(secret, b"pinnace link 1\0" + side + b"\0" + own + other, hashlib.sha256)


def is_proof(given: bytes, secret: bytes, side: bytes, own: bytes, other: bytes) -> bool:
    """Return whether `given` is that end's proof; takes as long for a wrong one."""
    return hmac.compare_digest(given, proof(secret, side, own, other))
