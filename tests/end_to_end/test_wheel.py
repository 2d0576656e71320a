"""The built wheel holds everything: installed elsewhere, without this checkout, it makes and serves a function."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_wheel_works_elsewhere(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True, timeout=110
    )
    (wheel,) = tmp_path.glob("pinnace-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    for file in ("python3-http/template.yml", "_node/pinnace_runtime/main.js", "bash/function/handler.sh", "store.json"):
        assert f"runtime-templates/{file}" in names
    for file in (
        "grafana/overview.json",
        "prometheus/prometheus.yml",
        "prometheus/rules/alerts.yml",
        "helm/pinnace/values.yaml",
        "helm/pinnace/files/rules/alerts.yml",
    ):
        assert f"deploy/{file}" in names
    assert {f"gateway/page/{file.name}" for file in (ROOT / "gateway" / "page").iterdir()} <= set(names)
    assert not any(n.startswith(("tests/", "docs/", "benchmarks/")) for n in names)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "HOME": str(work), "OPENFAAS_CONFIG": str(work / ".openfaas")}

    def faas(*arguments: str) -> list[str]:
        start = f"import sys; sys.path.insert(0, {str(site)!r}); from cli.main import main; main()"
        return [sys.executable, "-P", "-c", start, *arguments]

    def run(*arguments: str) -> None:
        done = subprocess.run(faas(*arguments), cwd=work, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    serving = faas("serve", "--port", "0", "--data-dir", str(work / "data"))
    with subprocess.Popen(serving, cwd=work, env=environment, stdout=subprocess.PIPE, text=True) as platform:
        try:
            assert platform.stdout is not None
            word, url = platform.stdout.readline().split()
            assert word == "ready"
            run("new", "made", "--lang", "python3-http")
            run("deploy", "--gateway", url)
            with urllib.request.urlopen(f"{url}/function/made", timeout=10) as answer:
                assert answer.status == 200
            runtime = next((work / "data" / "layers").glob("*/pinnace_runtime/__main__.py"), None)
            assert runtime is not None, "the runtime came out of the wheel"
        finally:
            platform.terminate()
    assert platform.returncode == 0
