"""Which CloudEvents a function wants: a filter on their attributes, in an annotation.

    com.pinnace.events: type=com.example.order.* source=/shop/*; type=com.example.refund.made

Conditions that stand together must all hold; of alternatives, on lines of their own or between `;`, one. `*` at the end of a
value is any end, at its beginning any beginning, alone anything at all; `!=` turns a condition round. Values that hold a
space, `;` or `*` of their own, and what this cannot say, are written as JSON, in the filters of Knative's Trigger and the
CloudEvents Subscriptions API: `[{"any": [{"exact": {"type": "a b"}}, {"not": {"suffix": {"subject": ".tmp"}}}]}]`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec

EVENTS_KEY: Final = "com.pinnace.events"
TAKES: Final = "`ATTRIBUTE=VALUE …; …` with `*` at an end of a value, or Knative's filters as JSON"
MEANS: Final = "which CloudEvents the function gets; `*` alone is all of them"

LONGEST: Final = 4096
MOST_CONDITIONS: Final = 50
DEEPEST: Final = 10

_NAME: Final = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_CONDITION: Final = re.compile(r"([^=!\s]+)(!?=)(\S+)")
_FORM: Final = "ATTRIBUTE=VALUE, such as type=com.example.* or source=/shop"
_DIALECTS: Final = "exact, prefix, suffix, all, any, not"

Attributes = Mapping[str, str]
"""An event's attributes by name, values in their canonical form as text."""


class How(enum.StrEnum):
    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    PRESENT = "present"


class Condition(msgspec.Struct, frozen=True):
    """`attribute` is there, and equals, begins or ends with `value`."""

    attribute: str
    how: How
    value: str = ""

    def matches(self, event: Attributes) -> bool:
        found = event.get(self.attribute)
        if found is None:
            return False
        match self.how:
            case How.EXACT:
                return found == self.value
            case How.PREFIX:
                return found.startswith(self.value)
            case How.SUFFIX:
                return found.endswith(self.value)
            case How.PRESENT:
                return True


class All(msgspec.Struct, frozen=True):
    filters: tuple[Filter, ...]

    def matches(self, event: Attributes) -> bool:
        return all(one.matches(event) for one in self.filters)


class AnyOf(msgspec.Struct, frozen=True):
    filters: tuple[Filter, ...]

    def matches(self, event: Attributes) -> bool:
        return any(one.matches(event) for one in self.filters)


class Not(msgspec.Struct, frozen=True):
    filter: Filter

    def matches(self, event: Attributes) -> bool:
        return not self.filter.matches(event)


Filter = Condition | All | AnyOf | Not


def is_subscription_key(key: str) -> bool:
    """Whether a label or annotation is about events: it takes effect at once and makes no revision."""
    return key == EVENTS_KEY


def subscription(spec: FunctionSpec) -> Filter | None:
    """Return what the annotation (or the label, which yields to it) says; None: no event. Raises InvalidSetting."""
    text = spec.annotations.get(EVENTS_KEY, spec.labels.get(EVENTS_KEY))
    if text is None:
        return None
    try:
        return parse_filter(text)
    except InvalidSetting as error:
        raise InvalidSetting(f"{EVENTS_KEY}: {error}") from None


def parse_filter(text: str) -> Filter:
    """Return the filter that `text` describes. Raises InvalidSetting."""
    if len(text) > LONGEST:
        raise InvalidSetting(f"{len(text)} characters: at most {LONGEST}")
    text = text.strip()
    found = _from_json(text) if text.startswith(("[", "{")) else _from_words(text)
    if (count := sum(1 for _ in _conditions(found))) > MOST_CONDITIONS:
        raise InvalidSetting(f"{count} conditions: at most {MOST_CONDITIONS}")
    return found


def _from_words(text: str) -> Filter:
    if text == "*":
        return All(())
    alternatives = [part.split() for part in text.replace(";", "\n").splitlines() if part.strip()]
    if not alternatives:
        raise InvalidSetting(f"it is empty: {_FORM}, or * for every event")
    filters = [_together(tuple(_condition(word) for word in words)) for words in alternatives]
    return filters[0] if len(filters) == 1 else AnyOf(tuple(filters))


def _together(filters: tuple[Filter, ...]) -> Filter:
    return filters[0] if len(filters) == 1 else All(filters)


def _condition(word: str) -> Filter:
    parts = _CONDITION.fullmatch(word)
    if parts is None:
        raise InvalidSetting(f"{_short(word)} is no condition: {_FORM}")
    name, sign, value = _name(parts[1]), parts[2], parts[3]
    inner = value.strip("*") if value != "*" else ""
    stars = (value[:1] == "*", value[-1:] == "*") if value != "*" else (False, False)
    if all(stars) or "*" in inner or value.startswith("**") or value.endswith("**"):
        raise InvalidSetting(f"{_short(word)}: one * at the beginning or at the end; other text as JSON")
    how = How.PRESENT if value == "*" else How.SUFFIX if stars[0] else How.PREFIX if stars[1] else How.EXACT
    condition = Condition(name, how, inner)
    return Not(condition) if sign == "!=" else condition


def _from_json(text: str) -> Filter:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidSetting(f"it begins like JSON but is none: {error}") from None
    return _together(_list(value, "$", 0)) if isinstance(value, list) else _dialect(value, "$", 0)


def _list(value: object, at: str, depth: int) -> tuple[Filter, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidSetting(f"{at} must be a list of filters, not empty")
    return tuple(_dialect(item, f"{at}[{i}]", depth + 1) for i, item in enumerate(value))


def _dialect(value: Any, at: str, depth: int) -> Filter:
    if depth > DEEPEST:
        raise InvalidSetting(f"{at}: filters within filters, deeper than {DEEPEST}")
    if not isinstance(value, dict) or len(value) != 1:
        raise InvalidSetting(f"{at} must be an object with one of {_DIALECTS}")
    ((kind, inner),) = value.items()
    match kind:
        case "all":
            return All(_list(inner, f"{at}.all", depth))
        case "any":
            return AnyOf(_list(inner, f"{at}.any", depth))
        case "not":
            return Not(_dialect(inner, f"{at}.not", depth + 1))
        case "exact" | "prefix" | "suffix":
            if not isinstance(inner, dict) or not inner:
                raise InvalidSetting(f'{at}.{kind} must be an object such as {{"type": "com.example.made"}}')
            for name, text in inner.items():
                if not isinstance(text, str) or not text:
                    raise InvalidSetting(f"{at}.{kind}.{_short(name)} must be text, not empty")
            return _together(tuple(Condition(_name(name), How(kind), text) for name, text in inner.items()))
    raise InvalidSetting(f"{at} has {_short(str(kind))}: one of {_DIALECTS}")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidSetting(f"{_short(name)} is no attribute's name: lower-case letters and digits only")
    return name


def _conditions(found: Filter) -> Iterator[Condition]:
    match found:
        case Condition():
            yield found
        case Not():
            yield from _conditions(found.filter)
        case All() | AnyOf():
            for one in found.filters:
                yield from _conditions(one)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
