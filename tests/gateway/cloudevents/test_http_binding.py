"""The modes of the HTTP binding, and that the CloudEvents SDK understands what we write and we what it writes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloudevents.event import Event, InvalidEvent, checked
from gateway.cloudevents.http_binding import NotUnderstood, read, write

LEAST = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.made"}
HEADERS = tuple((f"ce-{name}", value) for name, value in LEAST.items())
JSON = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def structured(*parts: str, kind: str = JSON) -> Event:
    body = json.dumps(LEAST)[:-1] + "".join(f", {part}" for part in parts) + "}"
    (event,) = read([("Content-Type", kind)], body.encode())
    return event


def test_binary_mode() -> None:
    (event,) = read([*HEADERS, ("CE-Subject", "a b"), ("Content-Type", "text/xml"), ("X-Other", "1")], b"<x/>")
    assert event == Event(LEAST | {"subject": "a b", "datacontenttype": "text/xml"}, b"<x/>")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("a%25b%22", 'a%b"'),
        ("100%", "100%"),  # no %-sequence stays as it is
        ('"in \\"quotes\\""', 'in "quotes"'),
        ("Euro €".encode().decode("latin-1"), "Euro €"),  # bytes that are not encoded, but UTF-8
        ("", ""),
    ],
)
def test_headers_are_decoded(header: str, value: str) -> None:
    (event,) = read([*HEADERS, ("ce-x", header)], b"")
    assert event.attributes["x"] == value


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ([], "no event: ce-specversion and other headers, or Content-Type application/cloudevents+json"),
        ([("Content-Type", "application/json")], "no event"),
        ([*HEADERS, ("ce-id", "2")], "the header ce-id is there twice"),
        ([*HEADERS, ("ce-datacontenttype", "x/y")], "Content-Type is the header"),
        ([*HEADERS, ("ce-x", "%FF")], "the header ce-x is not UTF-8"),
        ([*HEADERS, ("ce-my-ext", "1")], "attribute 'my-ext'"),
        ([("ce-specversion", "1.0")], "id is missing"),
    ],
)
def test_what_is_no_event_in_headers(headers: list[tuple[str, str]], complaint: str) -> None:
    with pytest.raises(InvalidEvent) as error:
        read(headers, b"")
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("parts", "attributes", "data"),
    [
        ((), {}, b""),
        (('"data": null', '"subject": null'), {}, b""),
        (('"data": {"a" : 1.00,  "b": [] }',), {"datacontenttype": "application/json"}, b'{"a" : 1.00,  "b": [] }'),
        (
            ('"data": 12345678901234567890123456789.10',),
            {"datacontenttype": "application/json"},
            b"12345678901234567890123456789.10",
        ),
        (('"data": "text"',), {"datacontenttype": "application/json"}, b'"text"'),
        (('"data": "<x>ü</x>"', '"datacontenttype": "text/xml"'), {"datacontenttype": "text/xml"}, "<x>ü</x>".encode()),
        (('"data": {"a": 1}', '"datacontenttype": "text/xml"'), {"datacontenttype": "text/xml"}, b'{"a": 1}'),
        (('"data": 1', '"datacontenttype": "application/x+json; v=1"'), {"datacontenttype": "application/x+json; v=1"}, b"1"),
        (('"data_base64": "AP8="', '"datacontenttype": "image/png"'), {"datacontenttype": "image/png"}, b"\x00\xff"),
        (('"data_base64": "AP8="',), {}, b"\x00\xff"),
        (('"number": -5', '"yes": true', '"no": false'), {"number": "-5", "yes": "true", "no": "false"}, b""),
    ],
)
def test_structured_mode(parts: tuple[str, ...], attributes: dict[str, str], data: bytes) -> None:
    assert structured(*parts) == Event(LEAST | attributes, data)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"id": "\xff"}', "not a JSON object"),
        (b'{"specversion": "1.0"}', "id is missing"),
        (json.dumps(LEAST | {"data": 1, "data_base64": ""}).encode(), "both"),
        (json.dumps(LEAST | {"data_base64": "***"}).encode(), "not text in base64"),
        (json.dumps(LEAST | {"data_base64": 1}).encode(), "not text in base64"),
        (json.dumps(LEAST | {"x": 1.5}).encode(), "'x' must be text, a truth value or a whole number"),
        (json.dumps(LEAST | {"x": 2**31}).encode(), "of 32 bits"),
        (json.dumps(LEAST | {"x": {}}).encode(), "must be text"),
        (json.dumps(LEAST | {"specversion": 1.0}).encode(), "'specversion' must be text"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"x":' * 100_000, "not a JSON object"),
        (b'{"x":"\\ud800"}', "not a JSON object"),
    ],
)
def test_what_is_no_event_in_json(body: bytes, complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        read([("content-type", JSON)], body)


def test_batched_mode() -> None:
    body = json.dumps([LEAST, LEAST | {"id": "2", "data": 1}]).encode()
    one, two = read([("content-type", f"{BATCH}; charset=UTF-8")], body)
    assert (one.attributes["id"], two.attributes["id"], two.data) == ("1", "2", b"1")
    assert read([("content-type", BATCH)], b"[]") == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (json.dumps(LEAST).encode(), "not a JSON list"),
        (json.dumps([LEAST, {}]).encode(), "event 1 of the batch: specversion"),
        (json.dumps([LEAST] * 1001).encode(), "1001 events in a batch: at most 1000"),
    ],
)
def test_what_is_no_batch(body: bytes, complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        read([("content-type", BATCH)], body)


@pytest.mark.parametrize(
    "kind", ["application/cloudevents", "application/cloudevents+avro", "application/cloudevents+json; charset=latin-1"]
)
def test_other_formats_are_not_understood(kind: str) -> None:
    with pytest.raises(NotUnderstood, match="understood here"):
        read([("content-type", kind)], b"")


# against the SDK

texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=20)
contents = st.sampled_from(["application/octet-stream", "text/plain", "application/json"])


def as_told(sdk: CloudEvent) -> dict[str, str]:
    """The SDK's attributes as text; it keeps times as datetime."""
    return {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
        for name, value in sdk.get_attributes().items()
    }


@given(subject=texts, extension=texts, data=st.binary(max_size=50), kind=contents)
def test_we_read_what_the_sdk_writes_in_both_modes(subject: str, extension: str, data: bytes, kind: str) -> None:
    sdk = CloudEvent(
        LEAST
        | {"subject": subject, "myext": extension, "datacontenttype": kind, "time": datetime(2026, 1, 31, 12, tzinfo=UTC)},
        data,
    )
    binary, whole = to_binary(sdk, JSONFormat()), to_structured(sdk, JSONFormat())
    assert read(binary.headers.items(), binary.body) == [Event(as_told(sdk), data)]
    assert read(whole.headers.items(), whole.body) == [Event(as_told(sdk), data)]


@given(subject=texts, extension=texts, data=st.binary(min_size=1, max_size=50))
def test_the_sdk_reads_what_we_write(subject: str, extension: str, data: bytes) -> None:
    event = checked(LEAST | {"subject": subject, "myext": extension, "datacontenttype": "application/x-bytes"}, b"\xff" + data)
    headers, body = write(event)
    sdk = from_binary(HTTPMessage({name.lower(): value for name, value in headers}, body), JSONFormat(), CloudEvent)
    told = {name: value for name, value in sdk.get_attributes().items() if name != "time"}  # it adds one
    assert told == event.attributes
    assert sdk.get_data() == event.data
    assert all(value.isascii() and value.isprintable() for _, value in headers)


@given(st.dictionaries(st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True).filter(lambda n: n not in ("data", "time")), texts))
def test_what_we_write_we_read(extensions: dict[str, str]) -> None:
    try:
        event = checked(LEAST | extensions, b"data")
    except InvalidEvent:
        return
    headers, body = write(event)
    assert read(headers, body) == [event]


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda d: json.dumps(d).encode(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda c: st.lists(c) | st.dictionaries(st.sampled_from([*LEAST, "data", "data_base64", "x"]), c),
        ),
    ),
    st.sampled_from([JSON, BATCH]),
)
def test_any_body_is_events_or_is_refused(body: bytes, kind: str) -> None:
    try:
        read([("content-type", kind)], body)
    except InvalidEvent as error:
        assert str(error)


def test_the_longest_attributes_fit_into_a_head() -> None:
    (event,) = read([*HEADERS, ("ce-x", "%F0%9F%98%80" * 4_000)], b"")
    headers, _ = write(event)
    assert 45_000 < sum(len(name) + len(value) + 4 for name, value in headers) < 60_000


def test_data_in_base64_is_any_bytes() -> None:
    everything = bytes(range(256))
    assert structured(f'"data_base64": "{base64.b64encode(everything).decode()}"').data == everything
