"""Whether two submissions with one `Idempotency-Key` are the same request (draft-ietf-httpapi-idempotency-key-header, section
2.4): by a digest that is kept among the headers of the first one.

Of a submission without the key nothing is made. The digest is looked at only where a store says that a key is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import Final

import msgspec

from gateway.asynchronous.calls import Call, Headers, Submission

FINGERPRINT: Final = "x-pinnace-fingerprint"
"""The header that holds the digest. Nobody can send it, and functions do not get it."""
RELEVANT: Final = ("content-type", "content-encoding", "x-callback-url")
"""Headers that make another request. Others (a trace, a delay, a token that was renewed) differ when one is repeated."""
_PIECE_BYTES: Final = 256 * 1024


async def marked(wanted: Submission) -> Submission:
    """Return a submission with the fingerprint of its request. A body that is a file is read in a thread; where it cannot be
    it is removed, and this raises OSError."""
    digest = hashlib.sha256(_head(wanted))
    if isinstance(wanted.body, bytes):
        digest.update(wanted.body)
    else:
        try:
            await asyncio.to_thread(_update, digest, wanted.body)
        except OSError:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(wanted.body.unlink)
            raise
    return msgspec.structs.replace(wanted, headers=(*wanted.headers, (FINGERPRINT, digest.hexdigest())))


def differs(first: Call | None, repeated: Submission) -> bool:
    """Whether a `marked` submission is another request than the call that has its key; a call that is not known any more, or
    has no fingerprint, is taken for the same."""
    kept = _value(first.headers) if first is not None else ""
    return bool(kept) and kept != _value(repeated.headers)


def _head(wanted: Submission) -> bytes:
    said = dict.fromkeys(RELEVANT, "")
    for name, value in wanted.headers:
        if (low := name.lower()) in said:
            said[low] = value.strip()
    return msgspec.msgpack.encode((*wanted.function, wanted.method, wanted.path, *said.values()))


def _update(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)


def _value(headers: Headers) -> str:
    return next((value for name, value in headers if name == FINGERPRINT), "")
