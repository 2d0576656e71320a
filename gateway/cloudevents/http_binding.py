"""Events in HTTP requests: the three modes of the HTTP protocol binding 1.0.2, with the JSON event format 1.0.2.

| mode | Content-Type | attributes | data |
|---|---|---|---|
| binary | the data's | `ce-…` headers | the body |
| structured | application/cloudevents+json | members of the JSON object | `data`, or `data_base64` |
| batched | application/cloudevents-batch+json | a JSON list of such objects | |

JSON data reaches functions byte for byte as it was written: it is cut out of the body, not decoded and encoded again.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec

from gateway.cloudevents.event import Event, InvalidEvent, checked

STRUCTURED: Final = "application/cloudevents"
BATCH: Final = "application/cloudevents-batch"
PREFIX: Final = "ce-"
MOST_EVENTS: Final = 1000

_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
"""What stands in a header as it is (section 3.1.3.2)."""
_JSON: Final = re.compile(r"[^/]+/([^;]+\+)?json\s*(;.*)?", re.ASCII | re.IGNORECASE)
_UTF8: Final = re.compile(r"charset\s*=\s*\"?utf-?8\"?", re.ASCII | re.IGNORECASE)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_INTEGERS: Final = range(-(2**31), 2**31)

T = TypeVar("T")
Fields = Iterable[tuple[str, str]]
"""Names and values of headers; bytes beyond ASCII as Latin-1."""


class NotUnderstood(Exception):
    """The request is in a format that is not known here; the message says which are."""


def read(headers: Fields, body: bytes) -> list[Event]:
    """Return the events of a request: one, or those of a batch in their order. Raises InvalidEvent, NotUnderstood."""
    fields = [(name.lower(), value) for name, value in headers]
    kind = next((value.strip() for name, value in fields if name == "content-type"), "")
    form, parameters = kind.partition(";")[0].strip().lower(), kind.partition(";")[2]
    if not form.startswith(STRUCTURED):
        return [_binary(fields, kind, body)]
    if form not in (f"{STRUCTURED}+json", f"{BATCH}+json"):
        raise NotUnderstood(f"{form} is not understood here: {STRUCTURED}+json, {BATCH}+json, or ce- headers")
    if "charset" in parameters.lower() and not _UTF8.search(parameters):
        raise NotUnderstood(f"{kind}: UTF-8 is understood here")
    if form.startswith(BATCH):
        return _batch(body)
    return [_structured(_decoded(_OBJECT, body))]


def write(event: Event) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Return headers and body of a request in binary mode."""
    headers = [
        (f"{PREFIX}{name}", quote(value, safe=_SAFE)) for name, value in event.attributes.items() if name != "datacontenttype"
    ]
    if (kind := event.attributes.get("datacontenttype")) is not None:
        headers.append(("Content-Type", kind))
    return tuple(headers), event.data


def _binary(fields: Fields, kind: str, body: bytes) -> Event:
    attributes: dict[str, str] = {}
    for name, value in fields:
        if name.startswith(PREFIX):
            name = name.removeprefix(PREFIX)
            if name in attributes:
                raise InvalidEvent(f"the header {PREFIX}{name} is there twice")
            if name == "datacontenttype":
                raise InvalidEvent("ce-datacontenttype: Content-Type is the header that tells the data's type")
            attributes[name] = _from_header(name, value)
    if not attributes:
        raise InvalidEvent(
            f"no event: {PREFIX}specversion and other headers, or Content-Type {STRUCTURED}+json or {BATCH}+json"
        )
    if kind:
        attributes["datacontenttype"] = kind
    return checked(attributes, body)


def _from_header(name: str, value: str) -> str:
    """Decode a header (section 3.1.3.2): quotes around it go, then %-sequences are bytes of UTF-8."""
    value = value.strip(" \t")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"the header {PREFIX}{name} is not UTF-8 in %-sequences") from None


def _batch(body: bytes) -> list[Event]:
    members = _decoded(_LIST, body)
    if len(members) > MOST_EVENTS:
        raise InvalidEvent(f"{len(members)} events in a batch: at most {MOST_EVENTS}")
    events = []
    for number, member in enumerate(members):
        try:
            events.append(_structured(member))
        except InvalidEvent as error:
            raise InvalidEvent(f"event {number} of the batch: {error}") from None
    return events


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        body.decode()  # what msgspec cuts out as it is, it has not looked at
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"the body is not {'a JSON object' if decoder is _OBJECT else 'a JSON list'}: {error}") from None


def _structured(member: dict[str, msgspec.Raw]) -> Event:
    attributes = dict(_attributes(member))
    data, coded = _present(member, "data"), _present(member, "data_base64")
    if data is not None and coded is not None:
        raise InvalidEvent("data and data_base64 are both there: one of them")
    if coded is not None:
        return checked(attributes, _from_base64(coded))
    if data is None:
        return checked(attributes, b"")
    kind = attributes.setdefault("datacontenttype", "application/json")  # section 3.1 of the JSON format
    text = None if _JSON.fullmatch(kind) else _text(data)
    return checked(attributes, bytes(data) if text is None else text.encode())


def _attributes(member: dict[str, msgspec.Raw]) -> Iterator[tuple[str, str]]:
    for name, raw in member.items():
        if name in ("data", "data_base64"):
            continue
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidEvent(f"{name[:60]!a} is not JSON: {error}") from None
        match value:
            case None:  # as if it were not there
                pass
            case str():
                yield name, value
            case bool():
                yield name, "true" if value else "false"
            case int() if value in _INTEGERS:
                yield name, str(value)
            case _:
                raise InvalidEvent(f"{name[:60]!a} must be text, a truth value or a whole number of 32 bits")


def _present(member: dict[str, msgspec.Raw], name: str) -> msgspec.Raw | None:
    raw = member.get(name)
    return None if raw is None or bytes(raw) == b"null" else raw


def _text(raw: msgspec.Raw) -> str | None:
    """Return the text that a JSON value is; None where it is another value."""
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"data is not JSON: {error}") from None


def _from_base64(raw: msgspec.Raw) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(raw, type=str), validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        raise InvalidEvent("data_base64 is not text in base64") from None
