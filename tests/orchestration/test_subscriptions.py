from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec
from orchestration.subscriptions import EVENTS_KEY, parse_filter, subscription

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "type": "com.example.order.created",
    "source": "/shop/berlin",
    "subject": "order 17.json",
    "priority": "5",
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("*", True),
        ("type=com.example.order.created", True),
        ("type=com.example.order", False),
        ("type=com.example.*", True),
        ("type=org.*", False),
        ("type=*.created", True),
        ("type=*.deleted", False),
        ("subject=*", True),
        ("dataschema=*", False),
        ("type!=com.example.order.created", False),
        ("dataschema!=x", True),
        ("priority=5", True),
        ("type=com.example.* source=/shop/*", True),
        ("type=com.example.* source=/depot/*", False),
        ("type=org.* ; source=/shop/*", True),
        ("type=org.*\nsource=/depot/*", False),
        ("source=/shop/berlin", True),
        ("Source=/shop", None),
        ("type", None),
        ("type=", None),
        ("", None),
        (" ; ", None),
        ("type=*a*", None),
        ("type=a*b", None),
        ("type=**", None),
        ("type = x", None),
        ("=x", None),
    ],
)
def test_filters_in_words(text: str, wanted: bool | None) -> None:
    if wanted is None:
        with pytest.raises(InvalidSetting):
            parse_filter(text)
    else:
        assert parse_filter(text).matches(EVENT) is wanted


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([{"exact": {"type": "com.example.order.created"}}], True),
        ([{"exact": {"type": "com.example.order.created", "source": "/elsewhere"}}], False),
        ([{"prefix": {"source": "/shop"}}, {"suffix": {"subject": "17.json"}}], True),
        ([{"prefix": {"source": "/shop"}}, {"suffix": {"subject": ".txt"}}], False),
        ([{"any": [{"exact": {"type": "x"}}, {"exact": {"subject": "order 17.json"}}]}], True),
        ([{"all": [{"exact": {"type": "x"}}, {"exact": {"subject": "order 17.json"}}]}], False),
        ([{"not": {"exact": {"type": "x"}}}], True),
        ({"not": {"any": [{"prefix": {"source": "/"}}]}}, False),
        ([], None),
        ([{}], None),
        ([{"exact": {}}], None),
        ([{"exact": {"type": ""}}], None),
        ([{"exact": {"type": 1}}], None),
        ([{"exact": {"Type": "x"}}], None),
        ([{"sql": "type = 'x'"}], None),
        ([{"exact": {"type": "x"}, "prefix": {"type": "x"}}], None),
        ([{"any": {}}], None),
        ([{"exact": {f"a{i}": "x" for i in range(51)}}], None),
    ],
)
def test_filters_as_knative_writes_them(filters: object, wanted: bool | None) -> None:
    if wanted is None:
        with pytest.raises(InvalidSetting):
            parse_filter(json.dumps(filters))
    else:
        assert parse_filter(json.dumps(filters)).matches(EVENT) is wanted


def test_the_complaint_says_where() -> None:
    function = FunctionSpec(
        service="a", image="a", annotations={EVENTS_KEY: '[{"any": [{"exact": {"type": "x"}}, {"cesql": ""}]}]'}
    )
    with pytest.raises(InvalidSetting, match=r"^com\.pinnace\.events: \$\[0\]\.any\[1\] has 'cesql': one of exact, prefix"):
        subscription(function)


def test_depth_is_bounded() -> None:
    filters: object = {"exact": {"type": "x"}}
    for _ in range(200):
        filters = {"not": filters}
    with pytest.raises(InvalidSetting, match="deeper than 10"):
        parse_filter(json.dumps(filters))
    with pytest.raises(InvalidSetting):
        parse_filter("[" * 4000)


def test_a_function_without_the_annotation_wants_nothing() -> None:
    assert subscription(FunctionSpec(service="a", image="a")) is None
    labelled = FunctionSpec(service="a", image="a", labels={EVENTS_KEY: "*"})
    assert (found := subscription(labelled)) is not None
    assert found.matches({})


@given(st.text(alphabet='abc=!*; \n[]{}":,', max_size=40))
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        parse_filter(text).matches(EVENT)
    except InvalidSetting as error:
        assert len(str(error)) < 400
