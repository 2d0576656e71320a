"""How quick functions on Kubernetes are.

    python -m benchmarks.kubernetes many [--functions 1000]        a thousand functions in one go, on an API server of its own
    python -m benchmarks.kubernetes cold --image IMAGE             from zero to one, beside a bare Deployment, on a real node

`many` needs etcd and kube-apiserver ($KUBEBUILDER_ASSETS, /usr/local/kubebuilder/bin). `cold` needs a cluster ($KUBECONFIG)
whose pods this machine reaches, with a function's image that its node has.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import functools
import logging
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.cold_start_lab import percentile
from orchestration.kubernetes.api import DEPLOYMENTS, NAMESPACES, PODS, Exists, Missing
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.install import ensure
from orchestration.kubernetes.names import NAMESPACE_ANNOTATION
from orchestration.kubernetes.orchestrator import KubernetesOrchestrator
from orchestration.kubernetes.view import View
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from tests.orchestration.kubernetes.api_server import ApiServer, find_binaries

NAMESPACE = "benchmark"
POLL_S = 0.010
LIMIT_S = 60.0
ROUNDS_TOGETHER = 3
EXTRA_S = 0.1
P95_RATIO = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    many = kinds.add_parser("many")
    many.add_argument("--functions", type=int, default=1000)
    cold = kinds.add_parser("cold")
    cold.add_argument("--image", required=True)
    cold.add_argument("--rounds", type=int, default=20)
    cold.add_argument("--together", type=int, default=25)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if asked.kind == "many":
        _many(asked.functions)
    else:
        asyncio.run(_cold(asked.image, asked.rounds, asked.together))


# a thousand functions


def _many(count: int) -> None:
    binaries = find_binaries()
    if binaries is None:
        sys.exit("etcd and kube-apiserver are neither in $KUBEBUILDER_ASSETS nor in /usr/local/kubebuilder/bin")
    with tempfile.TemporaryDirectory() as folder, ApiServer.start(binaries, Path(folder)) as server:
        asyncio.run(_create(server, count))


async def _create(server: ApiServer, count: int) -> None:
    async with Cluster.open(server.kubeconfig) as cluster:
        await ensure(cluster)
        await _namespace(cluster)
        async with (
            View(cluster, probes=False) as view,
            KubernetesOrchestrator(cluster, view) as orchestrator,
            Controller(cluster, view) as controller,
        ):
            idle_mb = _memory_mb()
            cluster.sent.clear()
            began = time.perf_counter()
            turns = asyncio.Semaphore(32)

            async def deploy(number: int) -> None:
                async with turns:
                    spec = FunctionSpec(
                        service=f"f{number}", namespace=NAMESPACE, image="registry.test/app:1", env_vars={"A": "1"}
                    )
                    await orchestrator.apply(spec)

            await asyncio.gather(*(deploy(number) for number in range(count)))
            print(f"{count} functions deployed after {time.perf_counter() - began:.1f} s")
            await _until(lambda: controller.idle and _observed(view, count))
            spent_s = time.perf_counter() - began
            requests = sum(cluster.sent.values())
            print(f"all reconciled after {spent_s:.1f} s: {requests} requests, {requests / count:.1f} for each")
            for (verb, kind), n in sorted(cluster.sent.items(), key=lambda item: -item[1]):
                print(f"  {n:6}  {verb} {kind}")
            print(f"memory: {idle_mb:.0f} MB before, {_memory_mb():.0f} MB at most")
            cluster.sent.clear()
            began = time.perf_counter()
            controller.lead(True)
            await _until(lambda: controller.idle)
            spent_s, requests = time.perf_counter() - began, sum(cluster.sent.values())
            print(f"a new leader looks at all of them in {spent_s:.2f} s, with {requests} requests")
        began = time.perf_counter()
        async with View(cluster, probes=False):
            print(f"a start reads everything in {time.perf_counter() - began:.2f} s")


def _observed(view: View, count: int) -> bool:
    seen = [view.resource(function) for function in view.ids()]
    return len(seen) == count and all(r is not None and r.status.observed_generation == r.metadata.generation for r in seen)


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# cold starts


async def _cold(image: str, rounds: int, together: int) -> None:
    """Interleave wakes of a function with scaling a bare Deployment of the same pod from zero to one."""
    async with Cluster.open() as cluster:
        await ensure(cluster)
        await _namespace(cluster)
        with tempfile.TemporaryDirectory() as folder:
            async with (
                _platform(Path(folder)) as gateway,
                View(cluster, probes=False) as view,
                KubernetesOrchestrator(cluster, view) as orchestrator,
            ):
                names = [f"f{number}" for number in range(max(1, together))]
                for name in names:
                    await orchestrator.apply(
                        FunctionSpec(service=name, namespace=NAMESPACE, image=image, labels={"com.openfaas.scale.zero": "true"})
                    )
                for name in names:
                    function, revision = FunctionId(NAMESPACE, name), f"{name}-00001"
                    await _until(functools.partial(view.replicas.ready, function, revision), LIMIT_S)
                bare = [await _bare(cluster, name) for name in names]
                revisions = [f"{name}-00001" for name in names]
                try:
                    await _all_to_zero(cluster, revisions)
                    ours, theirs = [], []
                    for number in range(rounds):
                        for turn in (number, number + 1):  # who goes first takes turns
                            if turn % 2:
                                ours.append(await _wake(gateway, names[0]))
                            else:
                                theirs.append(await _bare_start(cluster, bare[0]))
                        await _all_to_zero(cluster, [bare[0], revisions[0]])
                    if rounds:
                        _print("one at a time", ours, theirs)
                        extra_s = statistics.median(ours) - statistics.median(theirs)
                        print(f"  difference of p50  {extra_s * 1000:+.0f} ms (goal: at most {EXTRA_S * 1000:+.0f} ms)")
                    ours, theirs = [], []
                    for number in range(ROUNDS_TOGETHER if together else 0):
                        for turn in (number, number + 1):
                            if turn % 2:
                                ours += await asyncio.gather(*(_wake(gateway, name) for name in names))
                                await _all_to_zero(cluster, revisions)
                            else:
                                theirs += await asyncio.gather(*(_bare_start(cluster, name) for name in bare))
                                await _all_to_zero(cluster, bare)
                    if together:
                        _print(f"{together} together, {ROUNDS_TOGETHER} times", ours, theirs)
                        ratio = percentile(ours, 0.95) / percentile(theirs, 0.95)
                        print(f"  ratio of p95       {ratio:.2f} (goal: at most {P95_RATIO})")
                finally:
                    for name in names:
                        await orchestrator.remove(FunctionId(NAMESPACE, name))
                    for name in bare:
                        await cluster.delete(DEPLOYMENTS, NAMESPACE, name)


def _print(what: str, ours: list[float], theirs: list[float]) -> None:
    def line(seconds: list[float]) -> str:
        return f"p50 {statistics.median(seconds) * 1000:6.0f} ms   p95 {percentile(seconds, 0.95) * 1000:6.0f} ms"

    print(f"{what}: n = {len(ours)}\n  woken by a call    {line(ours)}\n  bare Deployment    {line(theirs)}")


@contextlib.asynccontextmanager
async def _platform(folder: Path) -> AsyncIterator[str]:
    """Run `faas serve` on a free port; yield `HOST:PORT`."""
    faas = Path(sys.executable).with_name("faas")
    flags = ["--orchestration", "kubernetes", "--port", "0", "--data-dir", folder, "--no-auth", "--no-save-login"]
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(faas, "serve", *map(str, flags), stdout=pipe, stderr=nowhere)
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        yield line.decode().strip().removeprefix("ready http://")
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 15)


async def _wake(gateway: str, function: str) -> float:
    """Call a function that has no pod; return how long the answer took."""

    began = time.perf_counter()
    host, _, port = gateway.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /function/{function}.{NAMESPACE} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(LIMIT_S):
        line = await reader.readline()
    spent_s = time.perf_counter() - began
    writer.close()
    assert b" 200 " in line, line
    return spent_s


async def _bare(cluster: Cluster, function: str) -> str:
    """Make a Deployment with the function's own pod template, of no pod, that nobody looks after."""
    held = await cluster.get(DEPLOYMENTS, NAMESPACE, f"{function}-00001")
    name = f"bare-{function}"
    labels = {"bare": name}
    template = held["spec"]["template"] | {"metadata": {"labels": labels}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    with contextlib.suppress(Exists):
        await cluster.create(DEPLOYMENTS, document, manager="benchmark")
    return name


async def _bare_start(cluster: Cluster, name: str) -> float:
    """Scale a bare Deployment to one, and ask its pod each 10 ms until it answers 200; return how long that took."""
    began = time.perf_counter()
    await cluster.merge(DEPLOYMENTS, NAMESPACE, name, {"spec": {"replicas": 1}}, manager="benchmark", part="scale")
    found, version = await cluster.listed(PODS, NAMESPACE, selector=f"bare={name}")
    address = next((pod["status"].get("podIP", "") for pod in found), "")
    if not address:
        async for event, pod in cluster.watch(PODS, version, selector=f"bare={name}", namespace=NAMESPACE):
            if event != "BOOKMARK" and pod["status"].get("podIP"):
                address = pod["status"]["podIP"]
                break
    deadline = time.perf_counter() + LIMIT_S
    while not await _answers(address):
        assert time.perf_counter() < deadline
        await asyncio.sleep(POLL_S)
    return time.perf_counter() - began


async def _answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(address, 8080)
        writer.write(b"GET / HTTP/1.1\r\nHost: bare\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        writer.close()
        return b" 200 " in line
    return False


async def _all_to_zero(cluster: Cluster, deployments: list[str]) -> None:
    await asyncio.gather(*(_to_zero(cluster, name) for name in deployments))


async def _to_zero(cluster: Cluster, deployment: str) -> None:
    """Scale to zero and wait until no pod is left."""
    await cluster.merge(DEPLOYMENTS, NAMESPACE, deployment, {"spec": {"replicas": 0}}, manager="benchmark", part="scale")
    selector = f"bare={deployment}" if deployment.startswith("bare-") else f"pinnace.dev/revision={deployment}"

    async def none_left() -> bool:
        return not (await cluster.listed(PODS, NAMESPACE, selector=selector))[0]

    deadline = time.perf_counter() + LIMIT_S
    while not await none_left():
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.05)


async def _namespace(cluster: Cluster) -> None:
    metadata = {"name": NAMESPACE, "annotations": {NAMESPACE_ANNOTATION: "1"}}
    with contextlib.suppress(Exists, Missing):
        await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, manager="benchmark")


async def _until(condition: collections.abc.Callable[[], object], limit_s: float = 600.0) -> None:
    deadline = time.perf_counter() + limit_s
    while not condition():
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    main()
