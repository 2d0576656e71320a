"""What is answered to requests about asynchronous calls that come to nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gateway.asynchronous.calls import Submission
from gateway.asynchronous.settings import AsyncSettings
from gateway.edge.refusal import Refusal

RETRY_AFTER_BROKEN_S: Final = 5
_PLACES: Final = re.compile(
    r"[a-z]+://[^\s;,]*[^\s:;,.]"  # a URL
    r"|(?<![\w.])/[^\s:;,]+"  # a path
    r"|\b[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*:[0-9]{2,5}\b"  # a host and its port
)


def without_places(why: str, folder: Path) -> str:
    """Return what anybody may be told of a failure: where things are, on this machine or another, is for the operator's log.
    `folder` holds the platform's data, and is called that; a file in it has its name alone."""
    return _PLACES.sub("…", why.replace(f"{folder}/", "").replace(str(folder), "the data folder"))


def full(why: str, retry_after_s: int) -> Refusal:
    """The function's queue takes no more."""
    return Refusal(429, why, retry_after_s=retry_after_s)


def not_accepted(why: str) -> Refusal:
    """A call could not be kept."""
    return Refusal(503, f"the call was not accepted: {why}", retry_after_s=RETRY_AFTER_BROKEN_S)


def out_of_reach(why: str) -> Refusal:
    """Calls cannot be read or changed."""
    return Refusal(503, why, retry_after_s=RETRY_AFTER_BROKEN_S)


def too_long(settings: AsyncSettings) -> Refusal:
    """The body is more than is kept."""
    return Refusal(413, f"the request's body is longer than {settings.body_bytes} bytes, the most that is kept for later")


def another_request(wanted: Submission) -> Refusal:
    """The submission's key is that of another request."""
    key = wanted.idempotency_key[:60]
    return Refusal(
        422,
        f"the Idempotency-Key {key!r} belongs to another request to {wanted.function}, with another method, path, body, type or"
        " callback: nothing was kept; repeat that request as it was, or take a new key",
    )


def unknown(call_id: str) -> Refusal:
    """Nothing has this name."""
    if not call_id:
        return Refusal(404, "say which call: /async-function/CALL_ID")
    return Refusal(404, f"{call_id} is neither a function nor a call that is known (any more)")
