"""Both ends of a link prove to each other that they know one secret, without sending it, and see that they speak one language.

HMAC-SHA-256 over who speaks and both sides' nonces: an answer can be neither replayed nor reflected.

During an upgrade the ends are of two versions of Pinnace. Each names its protocol in its first message, `Challenge` and
`Hello`, whose fields therefore stay what they are; what differs is refused in words, by both.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

HUB: Final = b"hub"
MEMBER: Final = b"member"
LEAST_SECRET_BYTES: Final = 16
PROTOCOL: Final = 1
"""What both ends mean by the messages of a link. One more when a message is added that the other end has to understand, or
means something else; a field with a default, which an older end leaves out and passes over, changes nothing."""


class UnfitSecret(ValueError):
    """The secret is too short to be one."""


def check_secret(secret: bytes) -> bytes:
    """Return the secret without white space around it. Raises UnfitSecret."""
    if len(secret := secret.strip()) < LEAST_SECRET_BYTES:
        raise UnfitSecret(f"{len(secret)} bytes; {LEAST_SECRET_BYTES} at least, as `openssl rand -hex 32` makes")
    return secret


def misfit(protocol: int) -> str:
    """Say in a sentence why an end of that protocol cannot be spoken to; empty where it can."""
    if protocol == PROTOCOL:
        return ""
    return f"it speaks protocol {protocol} of the link and this end {PROTOCOL}: run one version of Pinnace on both"


def nonce() -> bytes:
    """Return what an end makes up for one link."""
    return secrets.token_bytes(32)


def proof(secret: bytes, side: bytes, own: bytes, other: bytes) -> bytes:
    """Return the proof of the end that is `side` and made up the nonce `own`, for the one that made up `other`."""
    return hmac.digest(secret, b"pinnace link 1\0" + side + b"\0" + own + other, hashlib.sha256)


def is_proof(given: bytes, secret: bytes, side: bytes, own: bytes, other: bytes) -> bool:
    """Return whether `given` is that end's proof; takes as long for a wrong one."""
    return hmac.compare_digest(given, proof(secret, side, own, other))
