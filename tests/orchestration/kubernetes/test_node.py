"""On a real node: images from our builder, pods that a kubelet runs. Slow, and only where a cluster is lent for it.

    PINNACE_TEST_CLUSTER=KUBECONFIG PINNACE_TEST_REGISTRY=HOST:PORT pytest tests/orchestration/kubernetes/test_node.py

The machine has to reach the pods' addresses, and the node to pull from the registry, over plain HTTP.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import json
import os
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Self

import pytest

from tests.builder.base_image import make_base
from tests.end_to_end.platform import FAAS, Platform, until
from tests.orchestration.kubernetes.api_server import free_ports

CLUSTER = os.environ.get("PINNACE_TEST_CLUSTER", "")
REGISTRY = os.environ.get("PINNACE_TEST_REGISTRY", "")
RATE = 200
SERVING = "pinnace.dev/function=node-hello"
HELLO = """
import os
def handle(event, context):
    key = "/var/openfaas/secrets/node-key"
    secret = open(key).read() if os.path.exists(key) else ""
    return {"statusCode": 200, "body": os.environ.get("VERSION", "1") + secret}
"""
BROKEN = 'raise RuntimeError("no configuration found")\ndef handle(event, context): ...\n'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CLUSTER and REGISTRY), reason="NO REAL NODE: PINNACE_TEST_CLUSTER and PINNACE_TEST_REGISTRY name none"
    ),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build and push both functions with our builder; return their images by name."""
    home = tmp_path_factory.mktemp("images")
    base = make_base(home / "base")
    tag = f"{time.time_ns():x}"
    found = {}
    for name, code in (("node-hello", HELLO), ("node-broken", BROKEN)):
        folder = home / name
        folder.mkdir()
        (folder / "handler.py").write_text(code)
        found[name] = f"{REGISTRY}/{name}:{tag}"
        command = [str(FAAS), "publish", str(folder), "--name", name, "--image", found[name], "--lang", "python3-http"]
        command += ["--base-image", base]
        made = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"HOME": str(home)}, cwd=home, timeout=300
        )
        assert made.returncode == 0, made.stdout + made.stderr
    return found


class Apart(Platform):
    """A controller, the control API and two edges, as processes of their own; spoken to by the first edge."""

    def start(self, role: str = "serve") -> None:
        secret = self.home / "link-secret"
        secret.write_text(secrets.token_hex(32))
        (control,) = free_ports(1)
        self.processes: list[subprocess.Popen[str]] = []
        self.ports: list[int] = []
        for number, part in enumerate(("controller", "control", "edge", "edge")):
            data = self.home / f"{part}-{number}"
            flags = ["--role", part, "--link-port", "0", "--link-secret-file", str(secret)]
            flags += ["--control", f"127.0.0.1:{control}"]
            flags += ["--port", str(control if part == "control" else 0), "--data-dir", str(data), *self.flags]
            with (self.home / "platform.log").open("ab") as log:
                process = subprocess.Popen(
                    [FAAS, "serve", *flags], stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
                )
            self.processes.append(process)
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready "), line + self.log()
            if part == "control":
                self.data = data
            if part == "edge":
                self.ports.append(int(line.rsplit(":", 1)[1]))
        self.port = self.ports[0]

    def stop(self, within_s: float = 10.0) -> int:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(within_s)
            assert process.stdout is not None
            process.stdout.close()
        return 0


@pytest.fixture(scope="module", params=["all", "apart"])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform")
    flags = ("--orchestration", "kubernetes", "--kubeconfig", CLUSTER, "--registries", REGISTRY)
    platform = Apart(home, *flags) if request.param == "apart" else Platform(home, *flags)
    platform.start()
    yield platform
    for name in ("node-hello", "node-broken"):
        platform.request("DELETE", "/system/functions", json.dumps({"functionName": name}))
    platform.request("DELETE", "/system/secrets", json.dumps({"name": "node-key"}))
    platform.stop()


def deploy(platform: Platform, name: str, image: str, **settings: object) -> None:
    """Deploy and return when it is accepted."""
    spec = json.dumps({"service": name, "image": image} | settings)
    answer = platform.request("PUT", "/system/functions", spec)
    if answer.status == 404:
        answer = platform.request("POST", "/system/functions", spec)
    assert answer.status == 202, answer.text


def details(platform: Platform, name: str) -> dict[str, object]:
    found: dict[str, object] = platform.request("GET", f"/api/v1/functions/{name}").json()
    return found


def says(platform: Platform, body: str) -> bool:
    answer = platform.request("GET", "/function/node-hello")
    return (answer.status, answer.text) == (200, body)


class Load:
    """Calls at a fixed rate, in the background; `results` counts what came."""

    def __init__(self, platform: Platform) -> None:
        self.results: collections.Counter[str] = collections.Counter()
        ports = platform.ports if isinstance(platform, Apart) else [platform.port]
        self._urls = itertools.cycle([f"http://127.0.0.1:{port}/function/node-hello" for port in ports])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            due = time.monotonic()
            while not self._over.wait(max(0.0, due - time.monotonic())):
                pool.submit(self._call, next(self._urls))
                due += 1 / RATE

    def _call(self, url: str) -> None:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                self.results[answer.read().decode()] += 1
        except urllib.error.HTTPError as error:
            with error:
                self.results[f"{error.code} {error.read(200).decode(errors='replace')}"] += 1
        except OSError as error:
            self.results[repr(error)] += 1


def kubectl(*words: str) -> str:
    command = ["kubectl", "--kubeconfig", CLUSTER, "-n", "openfaas-fn", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.timeout(300)
def test_it_is_deployed_called_scaled_to_zero_and_woken(platform: Platform, images: dict[str, str]) -> None:
    deploy(platform, "node-hello", images["node-hello"], labels={"com.openfaas.scale.zero": "true"})
    assert says(platform, "1"), "the first call waits for the first pod"
    platform.request("POST", "/system/scale-function/node-hello", json.dumps({"replicas": 0}))
    until(lambda: not kubectl("get", "pods", "-l", "pinnace.dev/function=node-hello", "-o", "name"), 60)
    assert says(platform, "1")


@pytest.mark.timeout(300)
def test_a_rollout_under_load_loses_nothing(platform: Platform, images: dict[str, str]) -> None:
    deploy(platform, "node-hello", images["node-hello"])
    until(lambda: says(platform, "1"), 60)
    with Load(platform) as load:
        time.sleep(1)
        deploy(platform, "node-hello", images["node-hello"], envVars={"VERSION": "2"})
        until(lambda: load.results["2"] > RATE, 60)
    assert set(load.results) == {"1", "2"}


@pytest.mark.timeout(300)
def test_fewer_pods_under_load_lose_nothing(platform: Platform, images: dict[str, str]) -> None:
    labels = {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "4"}
    deploy(platform, "node-hello", images["node-hello"], labels=labels)

    def scaled(count: int) -> None:
        platform.request("POST", "/system/scale-function/node-hello", json.dumps({"replicas": count}))

    until(lambda: says(platform, "1"), 60)
    scaled(4)
    until(lambda: platform.status("node-hello")["availableReplicas"] == 4, 60)
    with Load(platform) as load:
        time.sleep(1)
        scaled(1)
        until(lambda: kubectl("get", "pods", "-l", SERVING, "-o", "name").count("pod/") == 1, 60)
        time.sleep(0.5)
    assert set(load.results) == {"1"}


@pytest.mark.timeout(300)
def test_a_pod_killed_under_load_costs_its_calls_in_flight_at_most(platform: Platform, images: dict[str, str]) -> None:
    deploy(platform, "node-hello", images["node-hello"], labels={"com.openfaas.scale.min": "2"})
    until(lambda: says(platform, "1") and platform.status("node-hello")["availableReplicas"] == 2, 60)
    with Load(platform) as load:
        time.sleep(1)
        pod = kubectl("get", "pods", "-l", "pinnace.dev/function=node-hello", "-o", "name").split()[0]
        kubectl("delete", pod, "--grace-period=0", "--force", "--wait=false")
        time.sleep(4)
    failed = {what: n for what, n in load.results.items() if what != "1"}
    assert sum(failed.values()) <= 2, failed


@pytest.mark.timeout(300)
def test_what_does_not_start_says_why(platform: Platform, images: dict[str, str]) -> None:
    deploy(platform, "node-broken", images["node-broken"])
    until(lambda: "RuntimeError: no configuration found" in json.dumps(details(platform, "node-broken")), 60)
    answer = platform.request("GET", "/function/node-broken", timeout_s=90)
    assert answer.status == 503 and "cannot run" in answer.text
    deploy(platform, "node-broken", f"{REGISTRY}/node-none:1")
    until(lambda: "node-none:1: not found" in json.dumps(details(platform, "node-broken")), 60)


@pytest.mark.timeout(300)
def test_a_new_value_of_a_secret_is_seen(platform: Platform, images: dict[str, str]) -> None:
    secret = {"name": "node-key", "value": "-one"}
    platform.request("POST", "/system/secrets", json.dumps(secret))
    deploy(platform, "node-hello", images["node-hello"], secrets=["node-key"])
    until(lambda: says(platform, "1-one"), 60)
    platform.request("PUT", "/system/secrets", json.dumps(secret | {"value": "-two"}))
    until(lambda: says(platform, "1-two"), 60)
    assert all(says(platform, "1-two") for _ in range(20))
