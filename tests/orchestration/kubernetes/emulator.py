"""A stand-in for an API server where there is none: kmock's emulator, taught what the platform relies on.

kmock keeps objects, lists them and lets them be watched. Added here: versions, uids and generations, server-side apply as far
as one manager's own fields go, subresources, label selectors, pods and namespaces that take time to go. Not here, so that
its tests need a real server: schemas, defaults, CEL, immutability, conflicts of managers, roles, admission, expiry of watches.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp.web
import attrs
import kmock
import yaml

from orchestration.kubernetes.api import DEFINITIONS, DEPLOYMENTS, KINDS, LEASES, NAMESPACES, Kind
from orchestration.kubernetes.resource import Manifest

NOW = "2026-01-01T00:00:00Z"
KNOWN = (*KINDS.values(), LEASES, DEFINITIONS)
_PARTS = ("status",)


_TERM = re.compile(r"([\w./-]+)(?:=([^,]+)| in \(([^)]*)\))?(?:,|$)")

NAMESPACES_PATH = re.compile(r"/api/v1/namespaces(/[^/]+)?")
"""kmock takes every such path for what lies in a namespace: namespaces themselves are kept under another name."""


def resource_of(kind: Kind) -> Any:
    group, _, version = kind.api_version.rpartition("/")
    return kmock.resource(group, version, "x-namespaces" if kind is NAMESPACES else kind.plural)


@attrs.define(kw_only=True)
class Emulator(kmock.KubernetesEmulator):
    """Serve it with `kmock.Server`."""

    versions: Any = attrs.field(factory=lambda: itertools.count(1), init=False)
    watchers: list[tuple[Any, asyncio.Queue[Manifest]]] = attrs.field(factory=list, init=False)
    applied: dict[Any, Manifest] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for kind in KNOWN:
            self.resources[resource_of(kind)] = kmock.ResourceInfo()

    async def __call__(self, raw_request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        if NAMESPACES_PATH.fullmatch(raw_request.path):
            path = raw_request.path.replace("/namespaces", "/x-namespaces", 1)
            raw_request = raw_request.clone(rel_url=raw_request.rel_url.with_path(path, keep_query=True))
        return await super().__call__(raw_request)

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        if request.resource is None or str(request.method.value) in ("GET", ""):
            return await super()._handle(request)
        async with self._lock:
            status, event, document = self._changed(request)
            for resource, queue in self.watchers if event else ():
                if resource == request.resource:
                    queue.put_nowait({"type": event, "object": copy.deepcopy(document)})
        return aiohttp.web.json_response(document, status=status)

    def _changed(self, request: Any) -> tuple[int, str, Manifest]:
        """Carry out a write; return the answer's status, the event for watches (empty: nothing changed), and the object."""
        data: Manifest = request.data or {}
        name = request.name or data.get("metadata", {}).get("name", "")
        key = (request.resource, request.namespace, name)
        held = None if key not in self.objects or self.objects[key].deleted else copy.deepcopy(self.objects[key].raw)
        method = str(request.method.value)
        if method == "DELETE":
            return self._deleted(key, held, data)
        is_apply = "apply-patch" in request.headers.get("Content-Type", "")
        if method == "POST":
            if held is not None:
                raise refusal(409, "AlreadyExists", f'{request.resource.plural} "{name}" already exists')
            return 201, "ADDED", self._stored(key, None, data)
        if held is None and not is_apply:
            raise missing(request, name)
        if method == "PUT":
            if held is None or data["metadata"].get("resourceVersion") != held["metadata"]["resourceVersion"]:
                raise refusal(409, "Conflict", f"{name} has been changed meanwhile")
            return 200, "MODIFIED", self._stored(key, held, data)
        if is_apply:
            manager = (key, request.params["fieldManager"])
            change = _without_what_is_gone(self.applied.get(manager, {}), data)
            self.applied[manager] = copy.deepcopy(data)
        else:
            change = data if request.subresource not in _PARTS else {"status": data.get("status")}
        wanted = merged(held or {}, change)
        if wanted == held:
            return 200, "", held
        return (200 if held else 201), ("MODIFIED" if held else "ADDED"), self._stored(key, held, wanted)

    def _stored(self, key: Any, held: Manifest | None, wanted: Manifest) -> Manifest:
        resource, namespace, name = key
        kind = next(kind for kind in KNOWN if resource_of(kind) == resource)
        metadata = wanted.setdefault("metadata", {})
        metadata |= {"name": name, "resourceVersion": str(next(self.versions))}
        metadata |= {"namespace": namespace} if namespace else {}
        old: Manifest = held["metadata"] if held else {"uid": str(uuid.uuid4()), "creationTimestamp": NOW, "generation": 0}
        has_changed = held is None or held.get("spec") != wanted.get("spec")
        metadata |= {word: old[word] for word in ("uid", "creationTimestamp")}
        metadata["generation"] = old["generation"] + has_changed
        document: Manifest = {"apiVersion": kind.api_version, "kind": kind.name} | wanted
        if kind is DEPLOYMENTS:
            document["spec"].setdefault("replicas", 1)  # the one default that others read
        if key in self.objects:
            self.objects[key].create(document)
        else:
            self.objects[key] = document
        return document

    def _deleted(self, key: Any, held: Manifest | None, options: Manifest) -> tuple[int, str, Manifest]:
        resource, _, name = key
        if held is None:
            raise refusal(404, "NotFound", f'{resource.plural} "{name}" not found')
        if (uid := options.get("preconditions", {}).get("uid")) and uid != held["metadata"]["uid"]:
            raise refusal(409, "Conflict", f"the uid of {name} is another")
        is_slow = resource.plural == "x-namespaces" or held.get("spec", {}).get(
            "nodeName"
        )  # a kubelet, or a controller, ends it
        if is_slow and options.get("gracePeriodSeconds") != 0:
            held["metadata"]["deletionTimestamp"] = NOW
            return 200, "MODIFIED", self._stored(key, held, held)
        held["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[key].delete()
        for manager in [found for found in self.applied if found[0] == key]:
            del self.applied[manager]
        return 200, "DELETED", held

    async def _serve_list(self, request: Any) -> Any:
        found: Any = await super()._serve_list(request)
        found["items"] = [item for item in found["items"] if _is_selected(request, item)]
        found["metadata"] = {"resourceVersion": str(next(self.versions))}
        return found

    async def _serve_watch(self, request: Any) -> AsyncIterator[Any]:
        """Everything that is there, then each change: kmock's own would lose those between the two."""
        queue: asyncio.Queue[Manifest] = asyncio.Queue()
        async with self._lock:
            self.watchers.append((request.resource, queue))
            there = [found for key, found in self.objects.items() if key[0] == request.resource and not found.deleted]
            held: list[Manifest] = [copy.deepcopy(found.raw) for found in there]
        try:
            yield b""
            for item in held:
                if _is_selected(request, item):
                    yield {"type": "ADDED", "object": item}
            while True:
                event = await queue.get()
                if _is_selected(request, event["object"]):
                    yield event
        finally:
            self.watchers.remove((request.resource, queue))

    async def _serve_fetch(self, request: Any) -> Any:
        try:
            return await super()._serve_fetch(request)
        except kmock.KubernetesObjectNotFoundError:
            raise missing(request, request.name or "") from None


def refusal(code: int, reason: str, message: str) -> kmock.KubernetesError:
    return kmock.KubernetesError(status=code, reason=reason, message=message, details={})


def missing(request: Any, name: str) -> kmock.KubernetesError:
    assert request.resource is not None
    return refusal(404, "NotFound", f'{request.resource.plural} "{name}" not found')


def merged(old: Manifest, change: Manifest) -> Manifest:
    """Return what JSON merge patch (RFC 7396) makes of `old`."""
    found = copy.deepcopy(old)
    for word, value in change.items():
        if value is None:
            found.pop(word, None)
        elif isinstance(value, dict):
            before = found.get(word)
            found[word] = merged(before if isinstance(before, dict) else {}, value)
        else:
            found[word] = copy.deepcopy(value)
    return found


def _without_what_is_gone(before: Manifest, now: Manifest) -> Manifest:
    """Return a merge patch that says `now` and takes away what the same manager said before and says no longer."""
    found: Manifest = dict.fromkeys(set(before) - set(now))
    for word, value in now.items():
        held = before.get(word)
        found[word] = _without_what_is_gone(held if isinstance(held, dict) else {}, value) if isinstance(value, dict) else value
    return found


def _is_selected(request: Any, document: Manifest) -> bool:
    """Whether the labels have what the request's selector wants: `key`, `key=value`, or `key in (value,value)`."""
    labels = document.get("metadata", {}).get("labels") or {}
    for key, value, values in _TERM.findall(request.params.get("labelSelector", "")):
        wanted = [value] if value else [word.strip() for word in values.split(",") if word.strip()]
        if key not in labels or (wanted and labels[key] not in wanted):
            return False
    return True


def write_kubeconfig(file: Path, url: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url.rstrip("/")}}],
        "users": [{"name": "user", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }
    file.write_text(yaml.safe_dump(json.loads(json.dumps(document))))
    return file
