"""What the pods of a function wrote, from the kubelets by way of the API server, in the order of its time."""

from __future__ import annotations

import asyncio
import datetime
import heapq
from collections.abc import AsyncIterator
from typing import Final

from orchestration.kubernetes.api import PODS, ApiError, Forbidden
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import CONTAINER
from orchestration.kubernetes.view import View
from orchestration.orchestrator import LogLine, LogQuery, NotFound

LIMIT_BYTES: Final = 16 << 20
LOOK_EVERY_S: Final = 1.0
BEHIND_AT_MOST: Final = 1000


async def read_logs(cluster: Cluster, view: View, query: LogQuery) -> AsyncIterator[LogLine]:
    """Yield lines, oldest first; with `follow` also those of pods that come later, as they are written. Raises NotFound."""
    if view.resource(query.function) is None:
        raise NotFound(f"there is no function {query.function.name!r} in namespace {query.function.namespace!r}")
    known = {replica.id for replica in view.replicas.of(query.function)}
    pods = sorted(known if not query.instance else known & {query.instance})
    backlog = heapq.merge(*(await asyncio.gather(*(_backlog(cluster, query, pod) for pod in pods))), key=_time)
    lines = list(backlog)
    for line in lines[-query.tail :] if query.tail > 0 else lines:
        yield line
    if query.follow:
        latest = {pod: max((line.timestamp for line in lines if line.instance == pod), default="") for pod in pods}
        async for line in _follow(cluster, view, query, latest):
            yield line


async def _backlog(cluster: Cluster, query: LogQuery, pod: str) -> list[LogLine]:
    asked = {"limitBytes": str(LIMIT_BYTES)}
    if query.tail > 0:
        asked["tailLines"] = str(query.tail)
    if query.since is not None:
        asked["sinceTime"] = datetime.datetime.fromtimestamp(query.since, datetime.UTC).isoformat().replace("+00:00", "Z")
    return [line async for line in _pod_lines(cluster, query, pod, asked)]


async def _pod_lines(cluster: Cluster, query: LogQuery, pod: str, asked: dict[str, str]) -> AsyncIterator[LogLine]:
    path = PODS.path(query.function.namespace, pod, "log")
    silence_s = None if "follow" in asked else 30.0
    asked = asked | {"container": CONTAINER, "timestamps": "true"}
    try:
        async for raw in cluster.lines("GET", PODS, path, asked, silence_s=silence_s):
            stamp, _, text = raw.decode(errors="replace").partition(" ")
            yield LogLine(query.function.name, query.function.namespace, pod, stamp, text)
    except Forbidden as error:  # not the same as no lines
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        yield LogLine(query.function.name, query.function.namespace, pod, now, f"(no log: {error.message})")
    except ApiError:  # a pod that is gone, or has not begun: it has no lines
        return


async def _follow(cluster: Cluster, view: View, query: LogQuery, latest: dict[str, str]) -> AsyncIterator[LogLine]:
    queue: asyncio.Queue[LogLine] = asyncio.Queue(BEHIND_AT_MOST)
    readers: dict[str, asyncio.Task[None]] = {}

    async def read(pod: str) -> None:
        after = latest.get(pod, "")
        asked = {"follow": "true"} | ({"sinceTime": after} if after else {})
        async for line in _pod_lines(cluster, query, pod, asked):
            if line.timestamp > after:
                latest[pod] = after = line.timestamp
                await queue.put(line)

    async def look() -> None:
        while True:
            for replica in view.replicas.of(query.function):
                task = readers.get(replica.id)
                if (not query.instance or replica.id == query.instance) and (task is None or task.done()):
                    readers[replica.id] = asyncio.create_task(read(replica.id))
            await asyncio.sleep(LOOK_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        while True:
            yield await queue.get()
    finally:
        looking.cancel()
        for task in readers.values():
            task.cancel()
        await asyncio.gather(looking, *readers.values(), return_exceptions=True)


def _time(line: LogLine) -> str:
    return line.timestamp
