"""Reading a JSON body the way Go's decoder does, which is what OpenFaaS's clients were written against.

Unknown keys are ignored, keys are case-insensitive, `null` stands for what is absent. What no client means is refused
with the place where it is: NUL characters, numbers out of range, lone surrogates, bottomless nesting.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, TypeVar, get_args

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

LARGEST_JSON_BYTES = 1 << 20
_LARGE_BYTES = 64 << 10
"""From here on decoding takes longer than a loop that also proxies calls should stand still: about 0.5 ms."""

T = TypeVar("T")


async def read_json(request: Request, kind: type[T]) -> T:
    """Return the body as a `kind`, a msgspec Struct. Raises HTTPException 400 or 413."""
    body = await read_bytes(request, LARGEST_JSON_BYTES)
    if len(body) > _LARGE_BYTES:
        return await asyncio.to_thread(decode, body, kind)
    return decode(body, kind)


async def read_bytes(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes. Raises HTTPException 413."""
    body = bytearray()
    refuse_larger(request, limit)
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


LONGEST_LENGTH = 19
"""Digits of the largest length that means something; Python reads numbers of 4,300 at most."""


def refuse_larger(request: Request, limit: int) -> None:
    """Refuse before reading when the announced length is above `limit` bytes. Raises HTTPException 413."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > LONGEST_LENGTH or int(announced) > limit):
        raise too_large(limit)


def too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {limit} bytes")


def decode(body: bytes, kind: type[T]) -> T:
    """Return `body`, JSON, as a `kind`. Raises HTTPException 400 with the position of what is wrong."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}" if body else "the body is empty; it must be JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body must be a JSON object")
    try:
        return msgspec.convert(_folded(value, kind, "$"), kind)
    except msgspec.ValidationError as error:
        raise HTTPException(400, f"the body does not fit: {error}") from None


def _folded(value: dict[str, Any], kind: type, at: str) -> dict[str, Any]:
    """Return what `kind` knows of `value`, under the names it knows. Of keys that differ by case only, the last counts."""
    fields = _fields(kind)
    folded: dict[str, Any] = {}
    for key, item in value.items():
        known = fields.get(key.lower())
        if known is None or item is None:
            continue
        name, nested = known
        if nested is not None and isinstance(item, dict):
            item = _folded(item, nested, f"{at}.{name}")
        elif isinstance(item, dict):
            item = {_clean(k, at, name): "" if v is None else _clean(v, at, name) for k, v in item.items()}
        elif isinstance(item, list):
            item = ["" if v is None else _clean(v, at, name) for v in item]
        folded[name] = _clean(item, at, name)
    return folded


def _clean(value: Any, at: str, name: str) -> Any:
    if isinstance(value, float) and value.is_integer():  # 2.0 is a whole number to JSON
        return int(value)
    if isinstance(value, str) and "\0" in value:
        raise HTTPException(400, f"the body does not fit: a NUL character in `{at}.{name}`")
    return value


@functools.cache
def _fields(kind: type) -> dict[str, tuple[str, type | None]]:
    """Map each field's name in lower case to its name on the wire and the Struct it holds, if it does."""
    return {
        known.encode_name.lower(): (known.encode_name, next((t for t in _types(known.type) if _is_struct(t)), None))
        for known in msgspec.structs.fields(kind)
    }


def _types(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) or (annotation,)


def _is_struct(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
