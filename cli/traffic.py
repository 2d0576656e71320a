"""Tables of traffic as the command line has them: read from a gateway, changed, sent back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli.errors import GatewayRefused, Misuse, UnknownFunction
from orchestration.traffic import LATEST

if TYPE_CHECKING:
    from cli.api import Gateway

Entry = dict[str, Any]
"""`revision`, `percent` and perhaps `tag`, as in `GET /api/v1/functions/NAME/traffic`."""

TRIES = 3
_CHANGED_MEANWHILE = 412


class Traffic:
    """The traffic of one function on a gateway."""

    def __init__(self, gateway: Gateway, name: str, namespace: str) -> None:
        self._gateway = gateway
        self._name = name
        self._namespace = namespace
        self._path = f"/api/v1/functions/{name}"

    def read(self) -> Mapping[str, Any] | None:
        """Return what the gateway tells; None where there is no such function. Raises GatewayRefused and its kin."""
        reply = self._gateway.call("GET", f"{self._path}/traffic", query=self._query, accept=(200, 404))
        if reply.status == 404:
            return None
        told: Mapping[str, Any] = reply.json()
        return told

    def roll_back(self, to: str) -> Mapping[str, Any]:
        """Send all calls to an older revision."""
        return self._post("rollback", {"to": revision_of(to, self._name, ())} if to else {})

    def promote(self) -> Mapping[str, Any]:
        """Send all calls to the newest revision."""
        return self._post("promote", None)

    def change(self, shares: Mapping[str, int], tags: Mapping[str, str], untagged: Iterable[str]) -> Mapping[str, Any]:
        """Set shares (all of them, where any is given), give tags to revisions, and take tags away.

        Somebody else's change in between is seen, and the table made anew from it.
        """
        for attempt in range(TRIES):
            reply = self._gateway.call("GET", f"{self._path}/traffic", query=self._query, accept=(200, 404))
            if reply.status == 404:
                raise UnknownFunction(self._name, self._namespace)
            table = changed(reply.json()["traffic"], self._name, shares, tags, untagged)
            seen = {"If-Match": reply.headers["etag"]}
            try:
                return self._put(table, seen)
            except GatewayRefused as error:
                if error.status != _CHANGED_MEANWHILE or attempt == TRIES - 1:
                    raise
        raise AssertionError("the last try returns or raises")

    def pin(self) -> bool:
        """Have deploys move no calls: what `@latest` gets is given to the revision that it is.

        False: there is no function yet.
        """
        told = self.read()
        if told is None:
            return False
        pinned = [{**entry, "revision": told["latest"]} if entry["revision"] == LATEST else entry for entry in told["traffic"]]
        self._put(_merged(pinned), {})
        return True

    def _put(self, table: Sequence[Entry], headers: Mapping[str, str]) -> Mapping[str, Any]:
        content: dict[str, object] = {"traffic": table}
        reply = self._gateway.call("PUT", f"{self._path}/traffic", query=self._query, content=content, headers=headers)
        told: Mapping[str, Any] = reply.json()
        return told

    def _post(self, word: str, content: dict[str, object] | None) -> Mapping[str, Any]:
        reply = self._gateway.call("POST", f"{self._path}/{word}", query=self._query, content=content, accept=(200, 404))
        if reply.status == 404:
            raise UnknownFunction(self._name, self._namespace)
        told: Mapping[str, Any] = reply.json()
        return told

    @property
    def _query(self) -> dict[str, object]:
        return {"namespace": self._namespace}


def changed(
    table: Sequence[Entry], function: str, shares: Mapping[str, int], tags: Mapping[str, str], untagged: Iterable[str]
) -> list[Entry]:
    """Return the table with the changes; see `Traffic.change`. Raises Misuse."""
    held = {entry["tag"]: entry["revision"] for entry in table if entry.get("tag")}
    if missing := sorted(set(untagged) - held.keys()):
        raise Misuse(f"no revision of {function} has the tag {missing[0]!r}")
    wanted = {revision_of(text, function, held): percent for text, percent in shares.items()}
    moved = {tag: revision_of(text, function, held) for tag, text in tags.items()}
    split = wanted or _shares(table)
    kept = {tag: revision for tag, revision in held.items() if tag not in set(untagged)} | moved
    found: list[Entry] = [{"revision": revision, "percent": percent} for revision, percent in split.items() if percent]
    return found + [{"revision": revision, "percent": 0, "tag": tag} for tag, revision in kept.items()]


def revision_of(text: str, function: str, tags: Mapping[str, str] | Iterable[str]) -> str:
    """Return the revision that `text` stands for: its name, its number, a tag, or `@latest`."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return f"{function}-{int(text):05d}"
    return tags[text] if isinstance(tags, Mapping) and text in tags else text


def shown(told: Mapping[str, Any]) -> str:
    """Return in one line where calls go."""
    parts = [f"{entry['percent']} % to {entry['revision']}" for entry in told["routed"] if entry["percent"]]
    tags = [f"{entry['tag']} is {entry['revision']}" for entry in told["routed"] if entry.get("tag")]
    return ", ".join(parts) + (f"; {', '.join(tags)}" if tags else "")


def _shares(table: Iterable[Entry]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in table:
        found[entry["revision"]] = found.get(entry["revision"], 0) + entry["percent"]
    return found


def _merged(table: Sequence[Entry]) -> list[Entry]:
    tags = [{**entry, "percent": 0} for entry in table if entry.get("tag")]
    return [{"revision": revision, "percent": percent} for revision, percent in _shares(table).items() if percent] + tags
