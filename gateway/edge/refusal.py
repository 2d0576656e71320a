"""The answers that the edge makes itself: one line of text, marked as not the function's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD"))
_ALLOW: Final = b"Allow: GET, POST, PUT, PATCH, DELETE, OPTIONS, HEAD\r\n"
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Refusal(NamedTuple):
    """`text` is one line for people; `retry_after_s` > 0 tells programs when to come back, `busy` that nothing but a free slot
    was missing: the call was sent nowhere."""

    status: int
    text: str
    retry_after_s: int = 0
    busy: bool = False

    def response(self, *, extra: bytes, head_only: bool, close: bool) -> bytes:
        """Return the whole response; `extra` are header lines such as the call id."""
        line = "".join(c if c.isprintable() else "?" for c in self.text)[:1000]
        body = line.encode("utf-8", "replace") + b"\n"
        return b"".join(
            (
                b"HTTP/1.1 %d %b\r\n" % (self.status, _PHRASES[self.status]),
                b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n",
                b"X-OpenFaaS-Internal: gateway\r\n",
                b"Content-Length: %d\r\n" % len(body),
                b"Retry-After: %d\r\n" % self.retry_after_s if self.retry_after_s else b"",
                b"X-Pinnace-Busy: true\r\n" if self.busy else b"",
                _ALLOW if self.status == HTTPStatus.METHOD_NOT_ALLOWED else b"",
                b"Connection: close\r\n" if close else b"",
                extra,
                b"\r\n",
                b"" if head_only else body,
            )
        )


def not_found(name: str) -> Refusal:
    """The function `NAME.NAMESPACE` does not exist."""
    if name.startswith("."):
        return Refusal(404, "no function is named: the path is /function/NAME or /async-function/NAME")
    return Refusal(404, f"function {name} not found")
