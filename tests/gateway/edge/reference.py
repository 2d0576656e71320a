"""The tables of docs/invocation.md, written from what the edge does.

python -m tests.gateway.edge.reference
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway.edge import headers
from gateway.edge.settings import EdgeSettings

PAGE: Final = Path(__file__).parents[3] / "docs/invocation.md"

FLAGS: Final = {
    "trace_ratio": "--trace-ratio",
    "spans": "--otlp-endpoint",
    "host": "--host",
    "port": "--port",
    "trusted_proxies": "--trusted-proxies",
    "max_body_bytes": "--body-limit",
}

TO_THE_FUNCTION: Final[Mapping[int, str]] = {
    headers.HOST: "as it came; from an absolute target, that one's authority",
    headers.CONNECTION: "removed, with every field that it names; `Upgrade` is written anew for a tunnel",
    headers.CONTENT_LENGTH: "written anew",
    headers.TRANSFER_ENCODING: "written anew: `chunked`, or refused",
    headers.UPGRADE: "kept for a tunnel (WebSocket), else removed; `h2c` is removed",
    headers.EXPECT: "removed; the edge answers `100 Continue` when a replica has a slot",
    headers.CALL_ID: "kept when it is 1-128 letters, digits, `.`, `_`, `-`, else replaced; added when absent",
    headers.FORWARDED_FOR: "the client's address; appended to what a trusted proxy said",
    headers.FORWARDED_HOST: "the `Host`; what a trusted proxy said is kept",
    headers.FORWARDED_PROTO: "`http`; what a trusted proxy said is kept",
    headers.FORWARDED_OTHER: "removed; kept from a trusted proxy",
    headers.TIMING: "removed; `1` asks for `Server-Timing` in the answer: where the time went until its first byte",
    headers.TAG: "kept; the call goes to the revision that has the tag ([traffic](traffic.md))",
    headers.DROP: "removed",
}
TO_THE_CLIENT: Final[Mapping[int, str]] = {
    headers.CONNECTION: "removed, with every field that it names; the edge's own when its connection ends",
    headers.CALL_ID: "that of the accepted call where it is asynchronous",
    headers.CONTENT_LENGTH: "as it came, but for 204; without one the body goes chunked (HTTP/1.0: to the connection's end)",
    headers.TRANSFER_ENCODING: "written anew: `chunked`; anything else is a 502",
    headers.UPGRADE: "removed, but for `101 Switching Protocols`",
    headers.DATE: "as it came; added when absent",
    headers.DURATION: "as it came; when absent, the time until the response's head, in seconds",
    headers.INTERNAL: "as it came; `runtime` with 429 or 503: the call is tried again; `gateway`: the edge answers",
    headers.DROP: "removed",
}
ADDED_FOR_THE_FUNCTION: Final = {
    b"x-start-time": "when the call's head had come, nanoseconds since 1970; the client's own is removed",
}
ADDED_FOR_THE_CLIENT: Final = dict.fromkeys((b"x-call-id", b"x-start-time"), "what the function got; its own is removed")


def shown(name: bytes) -> str:
    """A header's name as people write it."""
    words = name.decode().split("-")
    special = {"te": "TE", "openfaas": "OpenFaaS", "id": "Id", "http2": "HTTP2"}
    return "-".join(special.get(word, word.capitalize()) for word in words)


def header_rows(table: Mapping[bytes, int], meanings: Mapping[int, str], anyway: Mapping[bytes, str]) -> Iterator[str]:
    """One row for each header that does not simply cross."""
    for name, kind in sorted(table.items(), key=lambda item: (item[1] == headers.DROP and item[0] not in anyway, item[0])):
        yield f"| `{shown(name)}` | {anyway[name] if name in anyway else meanings[kind]} |"


def default(name: str, value: bool | float | str | tuple[str, ...]) -> str:
    """A setting's default as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}{' s' if name.endswith('_s') else ''}"
    if isinstance(value, str):
        return f"`{value}`" if value else "none"
    return ", ".join(value) or "none"


def limit_rows() -> Iterator[str]:
    """One row for each setting of the edge."""
    body = ast.parse(inspect.getsource(EdgeSettings)).body[0]
    assert isinstance(body, ast.ClassDef)
    defaults = EdgeSettings()
    for field, note in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            name = field.target.id
            assert isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant), name
            meaning = note.value.value
            assert isinstance(meaning, str), name
            text = default(name, getattr(defaults, name))
            yield f"| `{name}` | {text} | {f'`{FLAGS[name]}`' if name in FLAGS else ''} | {meaning} |"


def tables() -> dict[str, list[str]]:
    """All tables of the page by the name of their markers."""
    return {
        "to the function": [
            "| header | what the function gets |",
            "|---|---|",
            *header_rows(headers.REQUEST, TO_THE_FUNCTION, ADDED_FOR_THE_FUNCTION),
        ],
        "to the client": [
            "| header | what the client gets |",
            "|---|---|",
            *header_rows(headers.RESPONSE, TO_THE_CLIENT, ADDED_FOR_THE_CLIENT),
        ],
        "limits": ["| setting | default | flag | meaning |", "|---|---|---|---|", *limit_rows()],
    }


def page(text: str) -> str:
    """Return the page with its tables as they must be."""
    for name, rows in tables().items():
        pattern = re.compile(rf"(<!-- {name} -->\n)(?:[^<]*\n)?(<!-- end -->)", re.DOTALL)
        assert len(pattern.findall(text)) == 1, name
        text = pattern.sub(lambda match, rows=rows: match[1] + "".join(f"{row}\n" for row in rows) + match[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
