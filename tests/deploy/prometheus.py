"""Debian's Prometheus for tests, with what `deploy/prometheus` holds."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

REPOSITORY: Final = Path(__file__).parents[2]
CONFIG: Final = REPOSITORY / "deploy" / "prometheus" / "prometheus.yml"
RULES: Final = sorted((REPOSITORY / "deploy" / "prometheus" / "rules").glob("*.yml"))
INTERVAL: Final = "500ms"


def promtool(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; skips the test where there is none."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("prometheus is not installed: promtool checks nothing here")
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, timeout=60)


def rules() -> list[dict[str, Any]]:
    """Return all rules that are shipped."""
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Prometheus:
    """One that runs at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series that the query gives now."""
        with contextlib.suppress(urllib.error.HTTPError):
            return [(s["metric"], float(s["value"][1])) for s in self.get("/api/v1/query", query=expr)["result"]]
        raise AssertionError(f"not valid: {expr}")


@contextmanager
def scraping(folder: Path, target: str) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration and rules, only quicker, against `target`."""
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    config["rule_files"] = [str(file) for file in RULES]
    for job in config["scrape_configs"]:
        for discovery in job.get("http_sd_configs", []):
            discovery["refresh_interval"] = INTERVAL
    text = json.dumps(config).replace("127.0.0.1:8082", target)
    (folder / "prometheus.yml").write_text(text)
    with serving(folder, "--enable-feature=exemplar-storage") as url:
        yield Prometheus(url)


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[str]:
    """Run Prometheus with `prometheus.yml` of the folder, until it is left; yields its address once it is ready."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: what needs it is not tested here")
    port = free_port()
    flags = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *more,
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen([program, *flags], stdout=log, stderr=log) as process:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1):
            return
        assert process.poll() is None, "prometheus ended"
        assert time.monotonic() < deadline, "prometheus is not ready"
        time.sleep(0.05)
