"""Which header fields cross the edge.

Every field name is sorted once into a kind; the answer is remembered under the exact spelling, so that a warm call
pays one dictionary look-up for each field. Hop-by-hop fields (RFC 9110 section 7.6.1) and the fields that the edge
itself writes never cross as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

KEEP: Final = 0
DROP: Final = 1
HOST: Final = 2
CONNECTION: Final = 3
CONTENT_LENGTH: Final = 4
TRANSFER_ENCODING: Final = 5
UPGRADE: Final = 6
EXPECT: Final = 7
CALL_ID: Final = 8
FORWARDED_FOR: Final = 9
FORWARDED_OTHER: Final = 10
FORWARDED_HOST: Final = 11
FORWARDED_PROTO: Final = 12
DATE: Final = 13
DURATION: Final = 14
INTERNAL: Final = 15
TIMING: Final = 16
TAG: Final = 17

_HOP_BY_HOP: Final = (b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te")

REQUEST: Final[Mapping[bytes, int]] = {
    b"host": HOST,
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"x-call-id": CALL_ID,
    b"x-start-time": DROP,
    b"x-pinnace-timing": TIMING,
    b"x-pinnace-tag": TAG,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-host": FORWARDED_HOST,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-real-ip": FORWARDED_OTHER,
    b"forwarded": FORWARDED_OTHER,
    b"http2-settings": DROP,
    **dict.fromkeys(_HOP_BY_HOP, DROP),
}
RESPONSE: Final[Mapping[bytes, int]] = {
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
    b"x-call-id": CALL_ID,
    b"x-start-time": DROP,
    b"date": DATE,
    b"x-duration-seconds": DURATION,
    b"x-openfaas-internal": INTERNAL,
    b"x-pinnace-traced": DROP,
    b"service-worker-allowed": DROP,  # a page below /function/NAME may take over what is below it, not the whole address
    **dict.fromkeys((b"keep-alive", b"proxy-connection", b"te"), DROP),
}

FORWARDED_PREFIX: Final = b"x-forwarded-"
"""All that begins so is said by proxies, and believed of trusted ones."""
HEAD_END: Final = b"\r\n\r\n"

_REMEMBERED: Final = 4096


def spellings(table: Mapping[bytes, int]) -> dict[bytes, int]:
    """Return a memory of kinds under exact spellings that knows the usual two: `x-call-id` and `X-Call-Id`."""
    return {**table, **{b"-".join(part.capitalize() for part in name.split(b"-")): kind for name, kind in table.items()}}


def learn(memory: dict[bytes, int], name: bytes, table: Mapping[bytes, int]) -> int:
    """Return the kind of a field that `memory` does not know yet, and remember it while there is room."""
    kind = _kind(name.lower(), table)
    if len(memory) < _REMEMBERED and len(name) <= 64:
        memory[name] = kind
    return kind


def _kind(name: bytes, table: Mapping[bytes, int]) -> int:
    if (kind := table.get(name)) is not None:
        return kind
    if b"_" in name and _kind(name.replace(b"_", b"-"), table) != KEEP:
        return DROP  # `X_Forwarded_For` becomes the same variable as the real one in CGI-like environments
    if table is REQUEST and name.startswith(FORWARDED_PREFIX):
        return FORWARDED_OTHER
    return KEEP


def tokens(values: Iterable[bytes]) -> list[bytes]:
    """Return the lower-case elements of a comma-separated list header (RFC 9110 section 5.6.1)."""
    return [token for value in values for part in value.split(b",") if (token := part.strip(b" \t").lower())]


def without(fields: list[bytes], names: Iterable[bytes]) -> list[bytes]:
    """Return `fields` (name, colon, value, line end, …) without the fields of these lower-case names."""
    banned = frozenset(names)
    kept: list[bytes] = []
    for i in range(0, len(fields), 4):
        if fields[i].lower() not in banned:
            kept += fields[i : i + 4]
    return kept
