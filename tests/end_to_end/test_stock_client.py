"""The stock OpenFaaS client does its whole round against a platform. Skipped where `faas-cli` is not on PATH."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.platform import Platform, until

CLIENT = shutil.which("faas-cli")
pytestmark = pytest.mark.skipif(CLIENT is None, reason="faas-cli is not on PATH")

Client = Callable[..., str]


@pytest.fixture
def client(platform: Platform) -> Client:
    (platform.home / "stock").mkdir(exist_ok=True)
    environment = {
        **platform.environment,
        "HOME": str(platform.home / "stock"),
        "OPENFAAS_CONFIG": str(platform.home / "stock" / "config"),
        "OPENFAAS_URL": platform.url,
        "OPENFAAS_TEMPLATE_STORE_URL": "http://127.0.0.1:1/",
    }

    def run(*arguments: str | Path, stdin: str | None = None, code: int = 0) -> str:
        done = subprocess.run(
            [str(CLIENT), *arguments],
            cwd=platform.home / "stock",
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            input=stdin,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}\n{platform.log()}"
        return done.stdout + done.stderr

    return run


def test_the_stock_clients_round(platform: Platform, client: Client) -> None:
    password = (platform.data / "basic-auth-password").read_text()
    assert "credentials saved" in client("login", "--password-stdin", "-g", platform.url, stdin=password)

    here = platform.home / "stock"
    templates = Path(__file__).parent.parent.parent / "runtime-templates"
    shutil.copytree(templates / "python3-http", here / "template" / "python3-http", dirs_exist_ok=True)
    (here / "stocked").mkdir()
    (here / "stocked" / "handler.py").write_text(
        "def handle(event, context):\n    print('called')\n    return 'stock ' + event.body.decode()\n"
    )
    (here / "stocked" / "requirements.txt").write_text("")
    (here / "stack.yaml").write_text(
        f"version: 1.0\nprovider:\n  name: openfaas\n  gateway: {platform.url}\nfunctions:\n"
        "  stocked:\n    lang: python3-http\n    handler: ./stocked\n    image: example/stocked:0.1\n"
        "    secrets: [stock-secret]\n    labels: {team: red}\n"
    )
    client("secret", "create", "stock-secret", "--from-literal", "one", "-g", platform.url)
    assert "stock-secret" in client("secret", "list", "-g", platform.url)
    client(
        "publish", "--remote-builder", platform.url, "--payload-secret", platform.data / "payload-secret", "-f", "stack.yaml"
    )
    client("deploy", "-f", "stack.yaml")
    until(lambda: platform.status("stocked").get("availableReplicas") == 1)
    assert "stocked" in client("list")
    described = client("describe", "stocked")
    assert "Ready" in described
    assert "example/stocked:0.1" in described
    assert client("invoke", "stocked", stdin="x") == "stock x"
    until(lambda: "called" in client("logs", "stocked", "--tail=false"))
    client("ready", "stocked")
    assert "updated" in client("secret", "update", "stock-secret", "--from-literal", "two", "-g", platform.url).lower()
    client("namespace", "create", "staging")
    assert "staging" in client("namespace", "list")
    client("namespace", "remove", "staging")
    client("remove", "stocked")
    until(lambda: platform.call("stocked").status == 404)
    client("secret", "remove", "stock-secret", "-g", platform.url)
    assert "stock-secret" not in client("secret", "list", "-g", platform.url)
