"""A real API server for tests: etcd and kube-apiserver on free ports of the loopback, with data of their own.

The binaries are looked for in $KUBEBUILDER_ASSETS, then in /usr/local/kubebuilder/bin (the convention of envtest). No
controller and no kubelet runs: what they would do, a test does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

BINARIES = ("etcd", "kube-apiserver")
TOKEN = "test-admin-token"  # opens a server that lives for one test run on the loopback
PLATFORM = "platform"
ROLES = ("edge", "control", "controller")
"""Users, as is PLATFORM, with no right but those that a test gives; what they ask for is written down (`asked`)."""

START_LIMIT_S = 60.0

_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "users": [PLATFORM, *ROLES]}, {"level": "None"}],
}


def find_binaries() -> Path | None:
    """Return the folder that has all binaries, or None."""
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), "/usr/local/kubebuilder/bin"):
        if folder and all(os.access(Path(folder) / name, os.X_OK) for name in BINARIES):
            return Path(folder)
    return None


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class ApiServer:
    """Both processes. Made by `start`; `restart` and `stop` are for tests of what happens then."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.platform_kubeconfig = self.kubeconfig_of(PLATFORM)
        self._binaries = binaries
        self._etcd_port, self._peer_port, self.port = free_ports(3)
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def start(cls, binaries: Path, folder: Path) -> Iterator[ApiServer]:
        server = cls(binaries, folder)
        try:
            server._prepare()
            server._start_etcd()
            server.start_api_server()
            yield server
        finally:
            server.stop()
            _end(server._etcd)
            shutil.rmtree(folder / "etcd", ignore_errors=True)

    def stop(self) -> None:
        """End the API server; what is stored stays."""
        _end(self._server)
        self._server = None

    def start_api_server(self) -> None:
        keys = self.folder / "service-account.key"
        self._server = self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--cert-dir={self.folder}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--service-cluster-ip-range=10.203.0.0/24",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--enable-priority-and-fairness=true",
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-mode=blocking",
        )
        self._await_ready()

    def _prepare(self) -> None:
        users = [f'{TOKEN},admin,admin,"system:masters"', *(f"test-{user}-token,{user},{user}" for user in (PLATFORM, *ROLES))]
        (self.folder / "tokens.csv").write_text("\n".join([*users, ""]))
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(_AUDIT))
        key = self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        self._write_kubeconfig(self.kubeconfig, TOKEN)
        for user in (PLATFORM, *ROLES):
            self._write_kubeconfig(self.kubeconfig_of(user), f"test-{user}-token")

    def _write_kubeconfig(self, file: Path, token: str) -> None:
        cluster = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        file.write_text(yaml.safe_dump(document))

    def kubeconfig_of(self, user: str) -> Path:
        return self.folder / f"{user}-kubeconfig"

    def asked(self, user: str = PLATFORM) -> list[dict[str, Any]]:
        """Return what a user asked for, as the audit log has it."""
        log = self.folder / "audit.log"
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [event for event in events if event["user"]["username"] == user]

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._etcd = self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--logger=zap",
        )

    def _run(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([self._binaries / name, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _await_ready(self) -> None:
        context = ssl._create_unverified_context()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            assert self._server is not None
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5, context=context):
                return
            if self._server.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "kube-apiserver.log").read_text(errors="replace")
                raise RuntimeError(f"kube-apiserver is not ready:\n{log[-3000:]}")
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(3)  # the API server would otherwise wait for open watches
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
