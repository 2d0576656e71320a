"""An event, and what CloudEvents 1.0.2 asks of its attributes (the specification's sections 2 and 3)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import date
from typing import Final

import msgspec

REQUIRED: Final = ("specversion", "id", "source", "type")
VERSION: Final = "1.0"
MOST_ATTRIBUTES: Final = 100
LONGEST_ATTRIBUTES: Final = 16 * 1024
"""Bytes of all names and values of one event in UTF-8. They become headers, three times as long at most, which have 64 KiB."""

_NAME: Final = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_REFERENCE: Final = re.compile(r"([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for it
_MEDIA_TYPE: Final = re.compile(rf"{_TOKEN}/{_TOKEN}(\s*;[ -~]*)?", re.ASCII)
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class InvalidEvent(ValueError):
    """Not an event; the message says which attribute and what would be right."""


class Event(msgspec.Struct, frozen=True):
    """`attributes` by name, values in their canonical form as text; `data` are the bytes whose type `datacontenttype` tells."""

    attributes: Mapping[str, str]
    data: bytes = b""

    @property
    def key(self) -> str:
        """What makes the event the one that it is: source and id, which a sender that repeats it repeats."""
        told = f"{self.attributes['source']}\0{self.attributes['id']}"
        return hashlib.sha256(told.encode()).hexdigest()


def checked(attributes: Mapping[str, str], data: bytes) -> Event:
    """Return the event with these attributes. Raises InvalidEvent."""
    if len(attributes) > MOST_ATTRIBUTES:
        raise InvalidEvent(f"{len(attributes)} attributes: at most {MOST_ATTRIBUTES}")
    for name, value in attributes.items():
        if not _NAME.fullmatch(name) or name == "data":
            raise InvalidEvent(f"attribute {_short(name)}: a name is lower-case letters and digits, at most 64, and not 'data'")
        if _FORBIDDEN.search(value):
            raise InvalidEvent(f"{name} holds control characters or what is no character")
    if sum(len(name) + len(value.encode()) for name, value in attributes.items()) > LONGEST_ATTRIBUTES:
        raise InvalidEvent(f"the attributes have more than {LONGEST_ATTRIBUTES} bytes")
    version = attributes.get("specversion", "")
    if version != VERSION and "specversion" in attributes:
        raise InvalidEvent(f"specversion is {_short(version)}: {VERSION} is understood here")
    for name in REQUIRED:
        if not attributes.get(name):
            raise InvalidEvent(f"{name} is {'empty' if name in attributes else 'missing'}: an event has {', '.join(REQUIRED)}")
    _check_form(attributes)
    return Event(dict(attributes), data)


def _check_form(attributes: Mapping[str, str]) -> None:
    if not _REFERENCE.fullmatch(attributes["source"]):
        raise InvalidEvent(f"source {_short(attributes['source'])} is no URI reference, such as /shop/berlin or urn:shop:7")
    if (schema := attributes.get("dataschema")) is not None and not (_SCHEME.match(schema) and _REFERENCE.fullmatch(schema)):
        raise InvalidEvent(f"dataschema {_short(schema)} is no absolute URI")
    if attributes.get("subject") == "":
        raise InvalidEvent("subject is empty: leave it out")
    if (kind := attributes.get("datacontenttype")) is not None and not _MEDIA_TYPE.fullmatch(kind):
        raise InvalidEvent(f"datacontenttype {_short(kind)} is no media type, such as application/json")
    if (time := attributes.get("time")) is not None and not _is_time(time):
        raise InvalidEvent(f"time {_short(time)} is no time such as 2026-01-31T12:30:05Z (RFC 3339)")


def _is_time(text: str) -> bool:
    parts = _TIME.fullmatch(text)
    if parts is None:
        return False
    try:
        date(int(parts[1]), int(parts[2]), int(parts[3]))
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:60] + "…")
