"""Secrets of functions: Kubernetes Secrets with one key, which carries the secret's own name and becomes the file's.

What others made, such as `kubectl create secret`, a function may use too; only ours and OpenFaaS's are listed.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Iterable
from typing import Final

from orchestration.function import Function
from orchestration.kubernetes.api import FUNCTIONS, SECRETS, Missing
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import GATEWAY, MANAGED_BY, OPENFAAS, PINNACE, SECRETS_ANNOTATION
from orchestration.kubernetes.refusals import refusals
from orchestration.kubernetes.resource import Manifest
from orchestration.kubernetes.view import View
from orchestration.orchestrator import NotFound, Refused
from orchestration.queueing import secrets_named
from orchestration.traffic import LATEST

LARGEST_BYTES: Final = 1 << 20
_OURS: Final = f"{MANAGED_BY} in ({PINNACE},{OPENFAAS})"


class Secrets:
    def __init__(self, cluster: Cluster, view: View) -> None:
        self._cluster = cluster
        self._view = view

    async def names(self, namespace: str) -> list[str]:
        """Return the names of those made through the API."""
        with refusals(f"namespace {namespace!r}"):
            found, _ = await self._cluster.listed(SECRETS, namespace, selector=_OURS)
        return sorted(secret["metadata"]["name"] for secret in found)

    async def missing(self, namespace: str, names: Iterable[str]) -> list[str]:
        """Return those that do not exist."""

        async def is_missing(name: str) -> bool:
            try:
                await self._cluster.get(SECRETS, namespace, name)
            except Missing:
                return True
            return False

        asked = sorted(set(names))
        with refusals(f"namespace {namespace!r}"):
            absent = await asyncio.gather(*(is_missing(name) for name in asked))
        return [name for name, gone in zip(asked, absent, strict=True) if gone]

    async def value(self, namespace: str, name: str) -> bytes:
        """Return a secret's value: of its one key, or of the one that has its name. Raises NotFound, Refused, Unavailable."""
        with refusals(f"secret {name!r} in namespace {namespace!r}"):
            held = await self._cluster.get(SECRETS, namespace, name)
        data: dict[str, str] = held.get("data") or {}
        if name not in data and len(data) != 1:
            raise NotFound(f"secret {name!r} in namespace {namespace!r} has no key {name!r}")
        return base64.b64decode(data[name] if name in data else next(iter(data.values())))

    async def create(self, namespace: str, name: str, value: bytes) -> None:
        """Raises AlreadyExists, Refused, Unavailable."""
        with refusals(f"secret {name!r} in namespace {namespace!r}"):
            await self._cluster.create(SECRETS, _secret(namespace, name, value), manager=GATEWAY)

    async def update(self, namespace: str, name: str, value: bytes) -> None:
        """Replace the value, and roll the pods that have the old one. Raises NotFound, Refused, Unavailable."""
        change = _secret(namespace, name, value)
        with refusals(f"secret {name!r} in namespace {namespace!r}"):
            held = await self._cluster.get(SECRETS, namespace, name)
            gone: Manifest = dict.fromkeys(held.get("data") or {})
            await self._cluster.merge(SECRETS, namespace, name, {"data": gone | change["data"]}, manager=GATEWAY)
        now = datetime.datetime.now(datetime.UTC).isoformat()
        for function in self.users(namespace, name, signing=False):
            annotation = {"metadata": {"annotations": {SECRETS_ANNOTATION: now}}}
            with refusals(f"function {function!r}"):
                changed = await self._cluster.merge(FUNCTIONS, namespace, function, annotation, manager=GATEWAY)
            self._view.feed(FUNCTIONS, changed)

    async def delete(self, namespace: str, name: str) -> None:
        """Raises NotFound, Refused while a function uses it, Unavailable."""
        if users := self.users(namespace, name):
            raise Refused(f"secret {name!r} is used by {', '.join(users)}")
        with refusals(f"secret {name!r} in namespace {namespace!r}"):
            await self._cluster.delete(SECRETS, namespace, name)

    def users(self, namespace: str, name: str, *, signing: bool = True) -> list[str]:
        """Return the functions with a revision that has traffic, is to have it or is the newest, and uses the secret; also
        those whose callbacks it signs, where these count (`signing`)."""
        found = []
        for function in self._view.ids():
            if function.namespace == namespace and (known := self._view.function(function)) is not None:
                live = asked_for(known) | {target.revision for target in known.traffic} | {known.newest.name}
                named = secrets_named(known.spec) if signing else known.spec.secrets or ()
                used = [named, *(r.secrets for r in known.revisions if r.name in live)]
                if any(name in secrets for secrets in used):
                    found.append(function.name)
        return sorted(found)


def asked_for(function: Function) -> set[str]:
    """Return the revisions that calls are to come to, also where the controller has yet to move them."""
    return {function.latest_ready if target.revision == LATEST else target.revision for target in function.split}


def _secret(namespace: str, name: str, value: bytes) -> Manifest:
    if len(value) > LARGEST_BYTES:
        raise Refused(f"secret {name!r} has {len(value)} bytes; at most {LARGEST_BYTES} fit")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": name, "namespace": namespace, "labels": {MANAGED_BY: PINNACE}},
        "data": {name: base64.b64encode(value).decode()},
    }
