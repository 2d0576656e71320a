"""Which names are allowed for functions, namespaces and secrets, and how a function is addressed."""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_NAMESPACE = "openfaas-fn"
FUNCTION_NAME_LIMIT = 50

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class InvalidName(ValueError):
    """A name that breaks the rules; the message says which rule and what would be right."""


class FunctionId(NamedTuple):
    """Where a function lives: `name` in `namespace`. Written `name.namespace`, as in OpenFaaS's paths and metrics."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"


def check_function_name(name: str) -> str:
    """Return `name`, an RFC 1123 label of at most 50 characters without `--` (which separates a tag from a name).

    Raises InvalidName.
    """
    if not name:
        raise InvalidName("a function needs a name: 'service' is empty")
    if len(name) > FUNCTION_NAME_LIMIT:
        raise InvalidName(f"function name {name[:20]!r}… has {len(name)} characters; at most {FUNCTION_NAME_LIMIT} fit")
    if not _LABEL.fullmatch(name):
        raise InvalidName(f"function name {name!r} may hold only a-z, 0-9 and '-', and starts and ends with a letter or digit")
    if "--" in name:
        raise InvalidName(f"function name {name!r} may not hold '--', which separates a tag from a name")
    return name


def check_namespace(name: str) -> str:
    """Return `name`, an RFC 1123 label of at most 63 characters. Raises InvalidName."""
    if not name or len(name) > 63 or not _LABEL.fullmatch(name):
        raise InvalidName(
            f"namespace {name[:64]!r} must be 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit"
        )
    return name


def check_secret_name(name: str) -> str:
    """Return `name`, an RFC 1123 subdomain of at most 253 characters: it becomes a file name. Raises InvalidName."""
    if not name or len(name) > 253 or not _SECRET.fullmatch(name) or ".." in name:
        raise InvalidName(
            f"secret name {name[:64]!r} must be 1 to 253 of a-z, 0-9, '-' and '.', starting and ending with a letter or digit"
        )
    return name


def parse_function_id(text: str, default_namespace: str = DEFAULT_NAMESPACE) -> FunctionId:
    """Split `NAME` or `NAME.NAMESPACE` at the last dot. Nothing is validated: an unknown name is simply not found."""
    name, dot, namespace = text.rpartition(".")
    return FunctionId(namespace, name) if dot else FunctionId(default_namespace, text)
