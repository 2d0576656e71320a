"""The words in which the `Function` resource is described: types with bounds and texts, and CEL rules. `crd` makes its schema
from them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta


class Rule(msgspec.Struct, frozen=True):
    """A CEL expression that must hold, and what people are told when it does not."""

    rule: str
    message: str


def free(text: str) -> Meta:
    """Return the annotation of a field that holds a piece of the pod API: it is checked where the pod is made."""
    return Meta(description=text, extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})


def listed(text: str, most: int, *, by: str = "") -> Meta:
    """Return the annotation of a list without duplicates: of texts, or of objects that differ in the field `by`."""
    kind = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [by]} if by else {"x-kubernetes-list-type": "set"}
    return Meta(description=text, max_length=most, extra_json_schema=kind)


Quantity = Annotated[
    str | int,
    Meta(
        extra_json_schema={
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$",
        }
    ),
]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
ShortName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
Text = Annotated[str, Meta(max_length=32768)]
Path = Annotated[str, Meta(pattern=r"^/[^:]*$", max_length=1024)]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    rules: ClassVar[tuple[Rule, ...]] = ()
