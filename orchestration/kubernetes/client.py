"""The connection to an API server: requests that are paced, tried again where that is safe, and refused in our words.

The official `kubernetes` package knows how to find a cluster, how to log in and how to speak TLS; objects go through as JSON.
It is imported when a connection is made, and nowhere else.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from orchestration.kubernetes.api import Kind, Throttled, Unreachable, error_of
from orchestration.kubernetes.resource import Manifest

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"

REQUEST_LIMIT_S: Final = 30.0
CONNECT_LIMIT_S: Final = 5.0
TRIED_FOR_S: Final = 15.0
"""After so long nothing is tried again: somebody waits for the answer."""
LONGEST_PUT_OFF_S: Final = 60.0
"""The most of a Retry-After that a watch believes."""
TRIES: Final = 5
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
PAGE: Final = 500
LONGEST_LINE_BYTES: Final = 16 << 20
SILENCE_S: Final = 150.0
"""A watch that says nothing for so long is dead: the server sends a bookmark each minute."""


class NoCluster(Exception):
    """No cluster can be found or logged in to; the message says where was looked."""


class Pace:
    """At most `burst` requests at once and `rate` a second after that; waiting requests go in order. `clock` is monotonic."""

    def __init__(self, rate: float, burst: int) -> None:
        self._gap_s = 1 / rate
        self._ahead_s = burst / rate
        self._free_at = 0.0

    def delay_s(self, now: float) -> float:
        """Take a place; return for how long to wait for it."""
        self._free_at = max(self._free_at, now - self._ahead_s) + self._gap_s
        return max(0.0, self._free_at - now)


class Cluster:
    """An API server. Made by `open`. `sent` counts requests by verb and kind."""

    def __init__(self, client: ApiClient, pace: Pace) -> None:
        self.sent: collections.Counter[tuple[str, str]] = collections.Counter()
        self._client = client
        self._pace = pace

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, kubeconfig: Path | None = None, context: str | None = None, *, rate: float = 400.0, burst: int = 400
    ) -> AsyncIterator[Cluster]:
        """Connect by a kubeconfig file, or else as a pod, or else by the user's own kubeconfig.

        `rate` and `burst` bound requests a second. Raises NoCluster.
        """
        client = await _connect(kubeconfig, context)
        try:
            yield cls(client, Pace(rate, burst))
        finally:
            await client.close()

    @property
    def url(self) -> str:
        return str(self._client.configuration.host)

    # objects

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """Return one object. Raises Missing, ApiError."""
        return await self._json("GET", kind, kind.path(namespace, name), safe=True)

    async def listed(self, kind: Kind, namespace: str = "", *, selector: str = "") -> tuple[list[Manifest], str]:
        """Return all objects, and the resource version they are of. Raises ApiError (Expired: they changed too much)."""
        found: list[Manifest] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._json("GET", kind, kind.path(namespace), query, safe=True)
            for item in page["items"]:
                item["metadata"].pop("managedFields", None)
                found.append(item)
            more = page["metadata"].get("continue")
            if not more:
                return found, page["metadata"]["resourceVersion"]
            query["continue"] = more

    async def create(self, kind: Kind, document: Manifest, *, manager: str) -> Manifest:
        """Make an object that must not exist yet. Raises Exists, Invalid, ApiError."""
        path = kind.path(document["metadata"].get("namespace", ""))
        return await self._json("POST", kind, path, {"fieldManager": manager}, document)

    async def apply(self, kind: Kind, document: Manifest, *, manager: str, force: bool = True) -> Manifest:
        """Make or change an object so that it says what `document` says (server-side apply). Raises Clash, Invalid, …"""
        path = kind.path(document["metadata"].get("namespace", ""), document["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._json("PATCH", kind, path, query, document, content=APPLY, safe=True)

    async def merge(
        self, kind: Kind, namespace: str, name: str, change: Manifest, *, manager: str, part: str = "", urgent: bool = False
    ) -> Manifest:
        """Change what `change` names (JSON merge patch) in an object or a part of it. Raises Missing, ApiError.

        What is `urgent`, because a call waits for it, stands in no line.
        """
        path = kind.path(namespace, name, part)
        query = {"fieldManager": manager}
        return await self._json("PATCH", kind, path, query, change, content=MERGE, safe=True, urgent=urgent)

    async def replace(self, kind: Kind, document: Manifest, *, manager: str) -> Manifest:
        """Write a whole object over the version that it names. Raises Clash, ApiError."""
        path = kind.path(document["metadata"].get("namespace", ""), document["metadata"]["name"])
        return await self._json("PUT", kind, path, {"fieldManager": manager}, document)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str = "") -> None:
        """Remove an object (with `uid`: only that one), and in the background what it owns. Raises Missing, Clash, …"""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._json("DELETE", kind, kind.path(namespace, name), {}, options, safe=bool(uid))

    async def watch(
        self, kind: Kind, version: str, *, selector: str = "", namespace: str = ""
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield `(ADDED | MODIFIED | DELETED | BOOKMARK, object)` after `version`, until the server ends it.

        Raises Expired when that is too long ago, ApiError.
        """
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "290"}
        if selector:
            query["labelSelector"] = selector
        async for line in self.lines("WATCH", kind, kind.path(namespace), query):
            event = msgspec.json.decode(line)
            if event["type"] == "ERROR":
                raise error_of(event["object"].get("code", 500), msgspec.json.encode(event["object"]))
            event["object"]["metadata"].pop("managedFields", None)
            yield event["type"], event["object"]

    async def lines(
        self, verb: str, kind: Kind, path: str, query: Mapping[str, str], *, silence_s: float | None = SILENCE_S
    ) -> AsyncIterator[bytes]:
        """Yield the lines of an answer as they come. Raises ApiError; silence for `silence_s` is Unreachable."""
        import aiohttp

        await self._wait(verb, kind)
        timeout = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=silence_s)
        try:
            answer = (await self._send("GET", path, query, None, "application/json", timeout)).response
            async with answer:
                if answer.status >= 400:
                    raise error_of(answer.status, await answer.read(), answer.headers.get("Retry-After"))
                rest = bytearray()
                async for data in answer.content.iter_any():
                    *whole, last = data.split(b"\n")
                    for part in whole:
                        rest += part
                        if rest:
                            yield bytes(rest)
                        rest.clear()
                    rest += last
                    if len(rest) > LONGEST_LINE_BYTES:
                        raise Unreachable(0, "TooLong", f"a line of {path} is longer than {LONGEST_LINE_BYTES >> 20} MiB")
                if rest:
                    yield bytes(rest)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(0, "Unreachable", _why(self.url, error)) from None

    # requests

    async def _json(
        self,
        method: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        *,
        content: str = "application/json",
        safe: bool = False,
        urgent: bool = False,
    ) -> Manifest:
        """Send a request; one that is `safe` to send twice is tried again when no answer came, any when it was put off."""
        pause_s = FIRST_PAUSE_S
        until = time.monotonic() + TRIED_FOR_S
        for left in range(TRIES - 1, -1, -1):
            try:
                await self._wait(method, kind, urgent)
                return await self._once(method, path, query or {}, body, content)
            except (Throttled, Unreachable) as error:
                delay_s = max(error.retry_after_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                again = safe or isinstance(error, Throttled)
                if not left or not again or time.monotonic() + delay_s > until:
                    raise
                await asyncio.sleep(delay_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, query: Mapping[str, str], body: Manifest | None, content: str) -> Manifest:
        import aiohttp

        try:
            answer = await self._send(
                method, path, query, body, content, aiohttp.ClientTimeout(total=REQUEST_LIMIT_S, sock_connect=CONNECT_LIMIT_S)
            )
            data = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(0, "Unreachable", _why(self.url, error)) from None
        if answer.status >= 400:
            raise error_of(answer.status, data, answer.headers.get("Retry-After"))
        document: Manifest = msgspec.json.decode(data)
        return document

    async def _wait(self, verb: str, kind: Kind, urgent: bool = False) -> None:
        self.sent[verb, kind.name] += 1
        if not urgent and (delay_s := self._pace.delay_s(time.monotonic())) > 0:
            await asyncio.sleep(delay_s)

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Manifest | None, content: str, timeout: Any
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content, "User-Agent": "pinnace"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        return await self._client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=timeout)


async def _connect(kubeconfig: Path | None, context: str | None) -> ApiClient:
    try:
        from kubernetes.aio.client import ApiClient, Configuration
        from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
    except ImportError:
        raise NoCluster("the Kubernetes client is not installed: pip install 'pinnace[kubernetes]'") from None

    configuration = Configuration()
    in_pod = kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ
    file = kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not in_pod and not any(Path(one).is_file() for one in str(file).split(os.pathsep)):
        raise NoCluster(f"no cluster by {file}: there is no such file; --kubeconfig or KUBECONFIG names the cluster's")
    try:
        if in_pod:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(str(file), context, client_configuration=configuration, persist_config=False)
        return ApiClient(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise NoCluster(f"no cluster by {'the service account of this pod' if in_pod else file}: {error}") from None


def _why(url: str, error: BaseException) -> str:
    return f"the Kubernetes API at {url} does not answer: {error or type(error).__name__}"
