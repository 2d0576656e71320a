"""What OpenFaaS's `handle(event, context)` is given.

Most handlers read one or two attributes, so the others are made when they are first asked for.
"""

from __future__ import annotations

import os
from _collections_abc import Mapping

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pinnace_runtime.http1 import Headers as HeaderList
    from pinnace_runtime.http1 import Request


class Headers(Mapping[str, str]):
    """The request's headers: names in any case; a repeated header's values are joined by a comma."""

    def __init__(self, headers: HeaderList) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in headers:
            self._values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        values = self._values[name.lower()]
        return values[0] if len(values) == 1 else ("; " if name.lower() == "cookie" else ", ").join(values)

    def __iter__(self) -> Iterator[str]:
        """Yield the names as they are usually written: `Content-Type`, whatever the client wrote."""
        return ("-".join(part.capitalize() for part in name.split("-")) for name in self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def getlist(self, name: str) -> list[str]:
        """Return each value of a repeated header."""
        return list(self._values.get(name.lower(), ()))

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


class Query(Mapping[str, str]):
    """The query's parameters: `query[name]` is the first value, `getlist(name)` are all of them."""

    def __init__(self, query: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        if query:
            from urllib.parse import parse_qsl

            for name, value in parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"):
                self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, default: Any = None, type: Callable[[str], Any] | None = None) -> Any:  # noqa: A002
        """Return the first value of `name`, made a `type` when one is given; `default` if it is absent or is not one."""
        values = self._values.get(name)
        if values is None:
            return default
        try:
            return values[0] if type is None else type(values[0])
        except ValueError:
            return default

    def getlist(self, name: str) -> list[str]:
        """Return all values of `name`."""
        return list(self._values.get(name, ()))

    def to_dict(self, flat: bool = True) -> dict[str, Any]:
        """Return a plain dict of first values, or of lists with `flat=False`."""
        return {name: values[0] if flat else list(values) for name, values in self._values.items()}

    def __repr__(self) -> str:
        return f"Query({self.to_dict(flat=False)!r})"


class Event:
    """One call: `body` (bytes), `method`, `path` (decoded), `headers` and `query` (mappings)."""

    body: bytes
    method: str
    path: str
    headers: Headers
    query: Query

    def __init__(self, request: Request, body: bytes) -> None:
        self._request = request
        self.body = body
        self.method = request.method

    def __getattr__(self, name: str) -> Any:
        value: object
        if name == "headers":
            value = Headers(self._request.headers)
        elif name == "query":
            value = Query(self._request.query)
        elif name == "path":
            value = decoded_path(self._request.path)
        else:
            raise AttributeError(f"event has no {name!r}; it has body, headers, method, query and path")
        setattr(self, name, value)
        return value


class Context:
    """Where the call runs: `hostname`, and `call_id`, the id that the call's log lines carry."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id

    @property
    def hostname(self) -> str:
        """The replica's name. Read when it is asked for: a fork has another one than the process that imported the handler."""
        return os.environ.get("HOSTNAME", "localhost")


def decoded_path(path: bytes) -> str:
    """Return the path with its percent-escapes decoded as UTF-8."""
    if b"%" in path:
        from urllib.parse import unquote_to_bytes

        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace")
