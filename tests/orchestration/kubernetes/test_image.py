"""The platform's image in a container, as a cluster would run it: not root, nothing writable but its two folders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.kubernetes.api import DEPLOYMENTS
from tests.builder.base_image import make_base
from tests.builder.registry.docker_registry import program
from tests.end_to_end.platform import FAAS
from tests.orchestration.kubernetes.api_server import ApiServer
from tests.orchestration.kubernetes.world import World, eventually

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the image as users do, and unpack it."""
    home = tmp_path_factory.mktemp("image")
    base = make_base(home / "base")
    command = [str(FAAS), "platform-image", "pinnace:test", "--base-image", base, "--output", f"oci-layout={home / 'layout'}"]
    environment = os.environ | {"HOME": str(home), "PINNACE_IMAGES": str(home / "store")}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110)
    assert made.returncode == 0, made.stdout + made.stderr
    unpack = [program("umoci"), "unpack", "--image", f"{home / 'layout'}:pinnace:test", str(home / "bundle")]
    subprocess.run(unpack, check=True, capture_output=True)
    runc = program("runc")
    probe = json.loads((home / "bundle" / "config.json").read_text())
    said = json.dumps(probe | {"process": probe["process"] | {"terminal": False, "args": ["python", "-c", "pass"]}})
    (home / "bundle" / "config.json").write_text(said)
    tried = subprocess.run([runc, "run", "--bundle", str(home / "bundle"), f"pinnace-probe-{os.getpid()}"], capture_output=True)
    if tried.returncode != 0:
        pytest.skip(f"NO CONTAINERS: runc cannot run them on this machine: {tried.stderr.decode()[-300:]}")
    (home / "bundle" / "config.json").write_text(json.dumps(probe))
    return home / "bundle"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(bundle: Path, words: list[str], mounts: list[tuple[Path, str]]) -> Iterator[subprocess.Popen[str]]:
    """Run `faas WORDS` in the image: its root read-only, /tmp and /data its own, on this machine's network."""
    config = json.loads((bundle / "config.json").read_text())
    process = config["process"]
    assert process["user"]["uid"] == 12000 and process["args"][0] == "faas"
    process |= {"terminal": False, "args": ["faas", *words], "noNewPrivileges": True}
    process["capabilities"] = {kind: [] for kind in process["capabilities"]}
    process["rlimits"] = []
    config["root"]["readonly"] = True
    config["linux"]["namespaces"] = [space for space in config["linux"]["namespaces"] if space["type"] != "network"]
    for place in ("tmp", "data"):  # as a cluster's emptyDir is
        folder = bundle / "own" / place
        folder.mkdir(parents=True)
        os.chown(folder, 12000, 12000)
        mount = {"destination": f"/{place}", "type": "bind", "source": str(folder), "options": ["bind", "rw"]}
        config["mounts"].append(mount)
    for source, place in mounts:
        bind = {"destination": place, "type": "bind", "source": str(source), "options": ["bind", "ro"]}
        config["mounts"].append(bind)
    (bundle / "config.json").write_text(json.dumps(config))
    (bundle / "rootfs" / "data").mkdir(exist_ok=True)  # a cluster's runtime makes what is mounted over
    name = f"pinnace-test-{os.getpid()}"
    runc = program("runc")
    command = [runc, "run", "--bundle", str(bundle), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
        try:
            yield started
        finally:
            subprocess.run([runc, "kill", name, "TERM"], capture_output=True, check=False)
            try:
                started.wait(20)
            finally:
                subprocess.run([runc, "delete", "-f", name], capture_output=True, check=False)


def post(url: str, body: str) -> int:
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), method="POST"), timeout=10) as answer:
        status: int = answer.status
        return status


@pytest.mark.timeout(240)
async def test_it_serves_a_cluster(bundle: Path, api_server: ApiServer, world: World, tmp_path: Path) -> None:
    kubeconfig, port = tmp_path / "kubeconfig", free_port()
    kubeconfig.write_text(api_server.kubeconfig.read_text())
    kubeconfig.chmod(0o644)
    words = ["serve", "--orchestration", "kubernetes", "--kubeconfig", "/kubeconfig", "--platform-namespace", world.namespace]
    words += ["--port", str(port), "--data-dir", "/data", "--no-save-login", "--no-auth", "--metrics-port", "0"]
    with running(bundle, words, [(kubeconfig, "/kubeconfig")]) as platform:
        assert platform.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("ready")):
            lines.append(platform.stdout.readline())
            if not lines[-1]:
                pytest.fail("".join(lines))
        url = f"http://127.0.0.1:{port}"
        spec = json.dumps({"service": "hello", "image": "registry.test/app:1", "namespace": world.namespace})
        assert await asyncio.to_thread(post, f"{url}/system/functions", spec) == 202
        deployment = await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.test/app:1"
    assert platform.returncode == 0, "it stops when it is told to"
