"""A store of templates: a JSON list that says which there are and where each is pulled from, in OpenFaaS's format.

One comes with us (`runtime-templates/store.json`); another is a file or a URL.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from builder.templates import TEMPLATES_FOLDER

BUILT_IN_STORE = TEMPLATES_FOLDER / "store.json"
LARGEST_BYTES = 4 << 20
TIME_LIMIT_S = 30.0


class StoreFailed(RuntimeError):
    """The store cannot be read, or does not have the template; one line says why."""


class StoreEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A template in a store. `repo` is where it is pulled from, `URL[#REF]`; `source` who makes it."""

    template: str
    repo: str
    platform: str = ""
    language: str = ""
    source: str = ""
    description: str = ""
    official: str = ""
    recommended: bool = False


def read_store(where: str = "") -> list[StoreEntry]:
    """Return the entries of the store at a path or an http(s) URL, ours without one. Raises StoreFailed."""
    name = where or str(BUILT_IN_STORE)
    try:
        if name.startswith(("http://", "https://")):
            with urllib.request.urlopen(name, timeout=TIME_LIMIT_S) as reply:  # noqa: S310
                content = reply.read(LARGEST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise StoreFailed(f"{name} is larger than {LARGEST_BYTES} bytes")
        return msgspec.json.decode(content, type=list[StoreEntry])
    except (urllib.error.URLError, OSError, ValueError) as error:
        if isinstance(error, msgspec.MsgspecError):
            raise StoreFailed(f"{name} is no store of templates: {error}") from None
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise StoreFailed(f"{name} cannot be read: {reason}") from None


def find_entry(entries: list[StoreEntry], name: str) -> StoreEntry:
    """Return the entry of that name, or SOURCE/NAME where several have it. Raises StoreFailed."""
    source, slash, template = name.rpartition("/")
    found = [entry for entry in entries if entry.template == template and (not slash or entry.source == source)]
    if not found:
        from difflib import get_close_matches

        near = get_close_matches(template, [entry.template for entry in entries], n=1)
        hint = f"did you mean {near[0]}?" if near else "faas template store list shows what there is"
        raise StoreFailed(f"the store has no template {name!r}; {hint}")
    recommended = [entry for entry in found if entry.recommended or entry.official == "true"]
    return (recommended or found)[0]
