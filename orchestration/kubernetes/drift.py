"""Whether an object in the cluster still says what we want it to say.

Only what we want is looked at: fields that the API server fills in, or that others own (the replica count, a webhook's
sidecar), are theirs.
"""

from __future__ import annotations

from typing import Any, Final

from orchestration.kubernetes.resource import Manifest
from orchestration.quantity import InvalidQuantity, parse_quantity

_KEYS: Final = ("name", "containerPort", "port", "mountPath")
"""What tells the members of Kubernetes's lists of objects apart."""

_QUANTITIES: Final = frozenset({"limits", "requests"})


def says(live: Manifest | None, wanted: Manifest) -> bool:
    """Whether `live` holds all that `wanted` says."""
    if live is None:
        return False
    return all(_says(live.get(part), wanted[part]) for part in wanted if part not in ("apiVersion", "kind", "metadata")) and (
        _says(live["metadata"], {k: v for k, v in wanted["metadata"].items() if v})
    )


def _says(live: Any, wanted: Any, within: str = "") -> bool:
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return not wanted and live is None
        return all(_says(live.get(key), value, within if within in _QUANTITIES else key) for key, value in wanted.items())
    if isinstance(wanted, list):
        return _list_says(live if isinstance(live, list) else [], wanted)
    if within in _QUANTITIES and live is not None:
        return _same_quantity(str(live), str(wanted))
    return bool(live == wanted) or (live is None and wanted in (False, "", 0))


def _list_says(live: list[Any], wanted: list[Any]) -> bool:
    key = next((k for k in _KEYS if wanted and all(isinstance(item, dict) and k in item for item in wanted)), None)
    if key is None:
        return len(live) == len(wanted) and all(_says(a, b) for a, b in zip(live, wanted, strict=True))
    by_key = {item[key]: item for item in live if isinstance(item, dict) and key in item}
    return all(_says(by_key.get(item[key]), item) for item in wanted)


def _same_quantity(one: str, other: str) -> bool:
    """The API server writes quantities its own way: `1000m` becomes `1`."""
    try:
        return parse_quantity(one) == parse_quantity(other)
    except InvalidQuantity:
        return one == other
