"""Values in path and query: how they are described, and read."""

from __future__ import annotations

import datetime
import re

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.control.operation import Parameter
from gateway.control.wire import NAMESPACE_PATTERN
from orchestration.duration import parse_duration_s

_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_FALSE = ("", "0", "f", "F", "false", "False", "FALSE")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_LARGEST = 999_999_999
FLAG = {"enum": [*_TRUE, *_FALSE]}

NAME = Parameter(
    "name",
    "The function, as NAME or NAME.NAMESPACE.",
    {"type": "string", "pattern": "^[-a-zA-Z_0-9.]+$", "example": "hello"},
    where="path",
    required=True,
)
NAMESPACE = Parameter(
    "namespace",
    "The namespace; openfaas-fn when it is not given here nor in the body, which counts first.",
    {"type": "string", "pattern": NAMESPACE_PATTERN, "maxLength": 63},
)
CALL_ID = Parameter(
    "call_id",
    "The call's X-Call-Id.",
    {"type": "string", "pattern": "^[-a-zA-Z0-9_.:]+$", "maxLength": 128},
    where="path",
    required=True,
)
REPLICA = Parameter(
    "replica",
    "The replica's id.",
    {"type": "string", "pattern": "^[-a-zA-Z0-9_.]+$", "maxLength": 128},
    where="path",
    required=True,
)
NAMESPACE_NAME = Parameter(
    "name", "The namespace.", {"type": "string", "pattern": "^[-a-z0-9]+$", "maxLength": 63}, where="path", required=True
)
USAGE = Parameter("usage", "Tell what the replicas use, where that is known.", FLAG)
FOLLOW = Parameter("follow", "Go on with new lines until the reader leaves.", FLAG)
TAIL = Parameter(
    "tail", "The last so many lines; all when it is 0 or less.", {"type": "integer", "minimum": -_LARGEST, "maximum": _LARGEST}
)
SINCE = Parameter("since", "Lines written at or after this moment.", {"type": "string", "format": "date-time"})
WAIT = Parameter(
    "wait",
    "Answer when the newest revision is ready or has failed, or after this long, such as 30s; at most 60s.",
    {"type": "string", "pattern": "^[0-9]{1,3}(ms|s)?$"},
)
GENERATION = Parameter(
    "generation", "With `wait`: the deploy to wait for.", {"type": "integer", "minimum": 0, "maximum": _LARGEST}
)


def flag(request: Request, name: str) -> bool:
    """Return a truth value, written in any of Go's ways. Raises HTTPException 400."""
    text = request.query_params.get(name, "")
    if text not in _TRUE + _FALSE:
        raise HTTPException(400, f"{name}={text[:40]!r}: true or false")
    return text in _TRUE


def integer(request: Request, name: str, least: int = -_LARGEST) -> int | None:
    """Return a whole number of at least `least`, None when it is not given. Raises HTTPException 400."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not _INTEGER.fullmatch(text) or int(text) < least:
        raise HTTPException(400, f"{name}={text[:40]!r}: a whole number from {least} to {_LARGEST}")
    return int(text)


def moment(request: Request, name: str) -> float | None:
    """Return an RFC 3339 time as Unix seconds, None when it is not given. Raises HTTPException 400."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError(text)
        return datetime.datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name}={text[:40]!r}: a time such as 2026-01-31T12:30:05Z (RFC 3339)") from None


def duration_s(request: Request, name: str) -> float | None:
    """Return seconds, None when it is not given. Raises InvalidDuration."""
    text = request.query_params.get(name)
    return None if text is None else parse_duration_s(text)
