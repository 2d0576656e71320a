"""On a real node: the plain manifests with the platform's own image, and a function. Slow, and where a cluster is lent for it.

    PINNACE_TEST_CLUSTER=KUBECONFIG PINNACE_TEST_REGISTRY=HOST:PORT pytest tests/orchestration/kubernetes/test_install.py

The machine has to reach the pods' addresses, the node to pull from the registry, over plain HTTP. Where pods reach no Services,
PINNACE_TEST_API=HOST:PORT says where they reach the API server; edges then get the address of the control API's pod.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builder.base_image import make_base
from tests.end_to_end.platform import FAAS, until
from tests.orchestration.kubernetes.chart import VARIANTS

CLUSTER = os.environ.get("PINNACE_TEST_CLUSTER", "")
REGISTRY = os.environ.get("PINNACE_TEST_REGISTRY", "")
API = os.environ.get("PINNACE_TEST_API", "")
PASSWORD = "test-password"
HELLO = "def handle(event, context):\n    return 'hello ' + event.body.decode()\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CLUSTER and REGISTRY), reason="NO REAL NODE: PINNACE_TEST_CLUSTER and PINNACE_TEST_REGISTRY name none"
    ),
]


def kubectl(*words: str, stdin: str | None = None) -> str:
    command = ["kubectl", "--kubeconfig", CLUSTER, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, input=stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Installed:
    """A platform in the cluster, spoken to at its Service's or its pod's address."""

    def __init__(self, url: str, image: str) -> None:
        self.url = url
        self.image = image

    def request(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        headers = {"Host": "gateway.pinnace", "Authorization": f"Basic {login}", "Content-Type": "application/json"}
        asked = urllib.request.Request(self.url + path, body.encode() or None, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Build both images with our builder and push them; return the platform's and the function's."""
    home = tmp_path_factory.mktemp("install")
    base = make_base(home / "base")
    tag = f"{time.time_ns():x}"
    own, hello = f"{REGISTRY}/pinnace:{tag}", f"{REGISTRY}/install-hello:{tag}"
    (home / "hello").mkdir()
    (home / "hello" / "handler.py").write_text(HELLO)
    faas(home, "platform-image", own, "--base-image", base, "--push")
    faas(home, "publish", str(home / "hello"), "--image", hello, "--lang", "python3-http", "--base-image", base)
    return own, hello


@pytest.fixture(params=VARIANTS, ids=lambda folder: folder.name)
def installed(request: pytest.FixtureRequest, images: tuple[str, str], tmp_path: Path) -> Iterator[Installed]:
    """Apply the manifests as a user does."""
    folder, (name, _, tag) = tmp_path / "kubernetes", images[0].rpartition(":")
    shutil.copytree(request.param, folder)
    file = folder / "kustomization.yaml"
    file.write_text(
        file.read_text().replace("newName: pinnace", f"newName: {name}").replace("newTag: latest", f"newTag: {tag}")
    )
    kubectl("apply", "-f", str(folder / "namespace.yaml"))
    make_secret("basic-auth", **{"basic-auth-user": "admin", "basic-auth-password": PASSWORD})
    make_secret("link", secret=os.urandom(32).hex())
    kubectl("apply", "-k", str(folder))
    if API:
        host, _, port = API.rpartition(":")
        environment = [f"KUBERNETES_SERVICE_HOST={host}", f"KUBERNETES_SERVICE_PORT={port}"]
        kubectl("-n", "pinnace", "set", "env", "deployment", "--all", *environment)
        if (folder / "roles.yaml").exists():
            ready("deployment/control")
            edge = kubectl("-n", "pinnace", "get", "deployment", "edge", "-o", "json")
            kubectl("apply", "--filename=-", stdin=edge.replace("--control=control:", f"--control={address('control')}:"))
    for deployment in kubectl("-n", "pinnace", "get", "deployments", "-o", "name").split():
        ready(deployment)
    yield Installed(f"http://{address('gateway')}:8080", images[1])
    kubectl("-n", "openfaas-fn", "delete", "functions.pinnace.dev", "--all", "--wait=false")
    until(lambda: not pods(), 60, 0.3)
    kubectl("-n", "pinnace", "delete", "deployment", "--all")


def make_secret(name: str, **values: str) -> None:
    given = [f"--from-literal={key}={value}" for key, value in values.items()]
    made = kubectl("-n", "pinnace", "create", "secret", "generic", name, "--dry-run=client", "--output=yaml", *given)
    kubectl("apply", "--filename=-", stdin=made)


def ready(deployment: str) -> None:
    kubectl("-n", "pinnace", "rollout", "status", deployment, "--timeout=100s")


def faas(home: Path, *words: str) -> None:
    environment = os.environ | {"HOME": str(home), "PINNACE_IMAGES": str(home / "images")}
    made = subprocess.run([FAAS, *words], capture_output=True, text=True, env=environment, cwd=home, timeout=200)
    assert made.returncode == 0, made.stdout + made.stderr


def address(service: str) -> str:
    """Return the address of a pod of one of the platform's Services that is ready."""
    chosen = f"kubernetes.io/service-name={service}"
    slices = json.loads(kubectl("-n", "pinnace", "get", "endpointslices", "-l", chosen, "-o", "json"))
    found = [e for s in slices["items"] for e in s["endpoints"] or () if e["conditions"]["ready"]]
    return str(found[-1]["addresses"][0])


def pods() -> list[str]:
    return kubectl("-n", "openfaas-fn", "get", "pods", "-l", "pinnace.dev/function=install-hello", "-o", "name").split()


@pytest.mark.timeout(400)
def test_it_is_installed_and_a_function_is_deployed_called_stopped_and_woken(installed: Installed) -> None:
    labels = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "3s"}
    spec = {"service": "install-hello", "image": installed.image, "labels": labels}
    assert installed.request("POST", "/system/functions", json.dumps(spec))[0] == 202
    assert installed.request("POST", "/function/install-hello", "you") == (200, "hello you"), "the first call waits for a pod"
    until(lambda: not pods(), 60, 0.3)
    began = time.monotonic()
    assert installed.request("POST", "/function/install-hello", "again") == (200, "hello again")
    print(f"woken in {time.monotonic() - began:.2f} s")
    said = kubectl(
        "-n", "openfaas-fn", "get", "fn", "install-hello", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    )
    assert said == "True"
