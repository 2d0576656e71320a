"""The CustomResourceDefinition, made from the types in `resource`: a structural schema with defaults and CEL rules."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from orchestration.kubernetes.names import GROUP, KIND, PLURAL, VERSION
from orchestration.kubernetes.resource import Manifest, Spec, Status
from orchestration.kubernetes.schema import Rule

NAME_RULES = (
    Rule("self.metadata.name.size() <= 50", "the name of a function has at most 50 characters"),
    Rule(
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && !self.metadata.name.contains('--')",
        "the name of a function holds a-z, 0-9 and '-', no '.' and no '--', which separates a tag from a name",
    ),
)

_COLUMNS = (
    ("Image", "string", ".spec.image", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Replicas", "integer", ".status.replicas", 0),
    ("Available", "integer", ".status.readyReplicas", 0),
    ("Revision", "string", ".status.servingRevision", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

_SIMPLE: Mapping[object, str] = {str: "string", int: "integer", bool: "boolean", float: "number"}


def schema_of(kind: Any) -> Manifest:
    """Return the structural schema of a type of `resource`: inlined, since Kubernetes knows no references."""
    if typing.get_origin(kind) is Annotated:
        inner, *metas = typing.get_args(kind)
        schema = schema_of(inner)
        for meta in metas:
            _add(schema, meta)
        return schema
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not types.NoneType]
        return schema_of(options[0]) if len(options) == 1 else {}  # of several only int-or-string, which its Meta says
    if origin is dict:
        value = arguments[1]
        return {"type": "object"} if value is Any else {"type": "object", "additionalProperties": schema_of(value)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if inspect.isclass(kind) and issubclass(kind, enum.StrEnum):
        return {"type": "string", "enum": [str(member) for member in kind]}
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return _object(kind)
    return {"type": _SIMPLE[kind]}


def _object(kind: type[msgspec.Struct]) -> Manifest:
    hints = typing.get_type_hints(kind, include_extras=True)
    schema: Manifest = {"type": "object", "description": inspect.cleandoc(kind.__doc__ or ""), "properties": {}}
    required = []
    for field in msgspec.structs.fields(kind):
        schema["properties"][field.encode_name] = found = schema_of(hints[field.name])
        if field.required:
            required.append(field.encode_name)
        elif _is_default(field.default):
            found["default"] = msgspec.to_builtins(field.default)
    if required:
        schema["required"] = required
    if rules := getattr(kind, "rules", ()):
        schema["x-kubernetes-validations"] = [msgspec.to_builtins(rule) for rule in rules]
    return schema


def _is_default(value: object) -> bool:
    """Whether the API server should write the default down: a number or word that people look for when it is not theirs."""
    return isinstance(value, bool | int | str) and value != ""


def _add(schema: Manifest, meta: msgspec.Meta) -> None:
    """Add what a Meta says. The length of a map or list has another name in JSON Schema."""
    if meta.description:
        schema["description"] = meta.description
    suffix = {"array": "Items", "object": "Properties"}.get(schema.get("type", ""), "Length")
    for word, value in (
        ("pattern", meta.pattern),
        ("minimum", meta.ge),
        ("maximum", meta.le),
        (f"min{suffix}", meta.min_length),
        (f"max{suffix}", meta.max_length),
    ):
        if value is not None:
            schema[word] = value
    schema |= meta.extra_json_schema or {}


def custom_resource_definition() -> Manifest:
    """Return the definition of `functions.pinnace.dev`."""
    status = schema_of(Status)
    for found in status["properties"].values():
        found.pop("default", None)  # a status is written whole
    schema = {
        "type": "object",
        "description": "A function: an image that answers HTTP, how many replicas of it run, and where its calls go.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(Spec),
            "status": status,
        },
        "x-kubernetes-validations": [msgspec.to_builtins(rule) for rule in NAME_RULES],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},  # with all Functions
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["fn"],
                "categories": ["pinnace"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                        for name, kind, path, priority in _COLUMNS
                    ],
                }
            ],
        },
    }
