from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cloudevents.event import InvalidEvent, checked

LEAST = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.made"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"subject": "order 17", "time": "2026-01-31T12:30:05Z", "dataschema": "https://example.com/schema#1"},
        {"source": "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"},
        {"source": "https://example.com/a%20b?c=d"},
        {"time": "2026-01-31t12:30:60.123456789+05:30"},
        {"datacontenttype": "text/plain; charset=utf-8"},
        {"datacontenttype": "application/vnd.example+json"},
        {"myextension": "ü €😀", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"empty": ""},
    ],
)
def test_what_the_specification_allows_is_an_event(more: dict[str, str]) -> None:
    event = checked(LEAST | more, b"data")
    assert event.attributes == LEAST | more
    assert event.data == b"data"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"specversion": "0.3"}, "specversion is '0.3': 1.0 is understood here"),
        ({"specversion": ""}, "specversion is ''"),
        ({"id": ""}, "id is empty: an event has specversion, id, source, type"),
        ({"type": ""}, "type is empty"),
        ({"source": ""}, "source is empty"),
        ({"source": "a b"}, "source 'a b' is no URI reference"),
        ({"source": "/a%2"}, "no URI reference"),
        ({"source": "/ü"}, "no URI reference"),
        ({"subject": ""}, "subject is empty: leave it out"),
        ({"dataschema": "/relative"}, "dataschema '/relative' is no absolute URI"),
        ({"dataschema": ""}, "no absolute URI"),
        ({"datacontenttype": "json"}, "datacontenttype 'json' is no media type"),
        ({"datacontenttype": "text/plain\r\nX: y"}, "control characters"),
        ({"time": "yesterday"}, "time 'yesterday' is no time such as"),
        ({"time": "2026-02-30T12:30:05Z"}, "no time"),
        ({"time": "2026-01-31T24:30:05Z"}, "no time"),
        ({"time": "2026-01-31 12:30:05Z"}, "no time"),
        ({"time": "2026-01-31T12:30:05"}, "no time"),
        ({"my_extension": "x"}, "attribute 'my_extension': a name is lower-case letters and digits"),
        ({"Type": "x"}, "attribute 'Type'"),
        ({"": "x"}, "attribute ''"),
        ({"x" * 65: "x"}, "at most 64"),
        ({"data": "x"}, "not 'data'"),
        ({"type": "a\nb"}, "type holds control characters"),
        ({"type": "a\ud800"}, "or what is no character"),
        ({"large": "x" * 16_384}, "more than 16384 bytes"),
        ({"large": "€" * 6_000}, "more than 16384 bytes"),
        ({f"a{i}": "x" for i in range(97)}, "101 attributes: at most 100"),
    ],
)
def test_what_it_does_not_allow_is_said(more: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidEvent) as error:
        checked(LEAST | more, b"")
    assert complaint in str(error.value)
    assert str(error.value).isascii()


@pytest.mark.parametrize("name", list(LEAST))
def test_what_is_required_must_be_there(name: str) -> None:
    with pytest.raises(InvalidEvent, match=f"{name} is missing: an event has specversion, id, source, type"):
        checked({k: v for k, v in LEAST.items() if k != name}, b"")


def test_an_event_is_the_same_by_source_and_id() -> None:
    one = checked(LEAST, b"")
    assert checked(LEAST | {"type": "other", "time": "2026-01-31T12:30:05Z"}, b"x").key == one.key
    assert checked(LEAST | {"id": "2"}, b"").key != one.key
    assert (
        checked(LEAST | {"source": "/shop1", "id": "1"}, b"").key != checked(LEAST | {"source": "/shop", "id": "11"}, b"").key
    )


@given(
    st.dictionaries(st.sampled_from([*LEAST, "subject", "time", "dataschema", "datacontenttype", "x"]), st.text(max_size=30))
)
def test_any_attributes_are_an_event_or_are_refused(attributes: dict[str, str]) -> None:
    try:
        checked(LEAST | attributes, b"")
    except InvalidEvent as error:
        assert len(str(error)) < 300
