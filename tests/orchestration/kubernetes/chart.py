"""The chart, and the plain manifests made of it: `deploy/kubernetes` is what helm makes of the defaults, a file a template.

    python -m tests.orchestration.kubernetes.chart        writes them anew; without helm only the settings and the page

Random secrets are left out, which no file can hold. Each file says of which chart it was made and what its own content is,
both as digests: so that a change of one without the other is seen where there is no helm too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cli.settings import ServeSettings, spoken

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "pinnace"
PLAIN = ROOT / "deploy" / "kubernetes"
PAGE = ROOT / "docs" / "kubernetes-install.md"
BEGIN, END = "<!-- values: made from the chart's schema -->", "<!-- end of values -->"
APART = PLAIN / "apart"
_WITHOUT_SECRETS = "login.create=false,linkSecret.create=false,callbackSecret.name="
VARIANTS = {PLAIN: _WITHOUT_SECRETS, APART: f"{_WITHOUT_SECRETS},roles=apart"}
"""The folders of plain manifests, and the values that make them."""
DEFINITION = CHART / "files" / "crd.yaml"
BY_HAND = {"kustomization.yaml", "namespace.yaml"}
"""What is not of the chart: how kubectl finds the rest, and the namespace that `helm install --create-namespace` makes."""

MADE_BY_THE_CHART = {
    "port", "host", "data_dir", "orchestration", "kubeconfig", "platform_namespace", "metrics_host", "metrics_port",
    "save_login", "log_format", "role", "link_port", "link_secret_file", "control", "drain", "callback_secret",
}  # fmt: skip

_HEAD = re.compile(r"# Made from deploy/helm/pinnace \(python -m tests\.orchestration\.kubernetes\.chart\): (\w+) (\w+)\n")


def find_helm() -> str | None:
    return shutil.which("helm")


def helm(*words: str, code: int = 0) -> str:
    """Run helm; return what it says on stdout, or on stderr where it is to fail with `code`."""
    done = subprocess.run(["helm", *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def template(*words: str, namespace: str = "pinnace") -> str:
    return helm("template", "pinnace", str(CHART), "--namespace", namespace, *words)


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def chart_digest() -> str:
    """Return the digest of all that the plain manifests depend on, except the definition, which they hold as it is."""
    found = hashlib.sha256()
    templates = [*(CHART / "templates").glob("*.yaml"), *(CHART / "templates").glob("*.tpl")]
    for path in [CHART / "Chart.yaml", CHART / "values.yaml", *sorted(templates)]:
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def rendered(folder: Path) -> dict[str, str]:
    """Return the contents of one folder's plain manifests by file name, as helm makes them now."""
    parts: dict[str, list[str]] = {}
    for part in re.split(r"^---\n", template("--set", VARIANTS[folder]), flags=re.MULTILINE):
        source, _, body = part.partition("\n")
        if found := re.fullmatch(r"# Source: pinnace/templates/(\S+)", source):
            parts.setdefault(found[1], []).append(body.strip("\n"))
    files = {name: "\n---\n".join(bodies) + "\n" for name, bodies in parts.items() if name != "crd.yaml"}
    return {name: head(body) + body for name, body in files.items()} | {"crd.yaml": DEFINITION.read_text()}


def head(body: str) -> str:
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f"# Made from deploy/helm/pinnace (python -m tests.orchestration.kubernetes.chart): {chart_digest()} {digest}\n"


def body_of(text: str) -> str:
    """Return a plain manifest without its first line. Raises ValueError where that is not one of ours."""
    if not _HEAD.match(text):
        raise ValueError("the first line does not say of which chart it was made")
    return text.partition("\n")[2]


def plain(folder: Path = PLAIN) -> list[dict[str, Any]]:
    """Return all objects of one folder's plain manifests."""
    files = sorted(set(folder.glob("*.yaml")) - {folder / "kustomization.yaml"})
    return [document for file in files for document in documents(file.read_text())]


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def described(found: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(path, schema)` of each value: of a group after what is in it is said of the group."""
    for name, inner in found["properties"].items():
        path = f"{place}{name}"
        yield path, inner
        if "properties" in inner and path != "settings":
            yield from described(inner, f"{path}.")


def default_of(path: str) -> Any:
    found: Any = values()
    for name in path.split("."):
        found = found[name]
    return found


def table() -> str:
    """Return the table of all values."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, found in described(schema()):
        is_group = "properties" in found and path != "settings"
        default = "" if is_group else f"`{json.dumps(default_of(path))}`"
        rows.append(f"| {f'**{path}**' if is_group else f'`{path}`'} | {default} | {found['description']} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def settings() -> dict[str, Any]:
    """Return the schemas of the settings of `faas serve` that the chart leaves to its users."""
    names = {spoken(field.name) for field in dataclasses.fields(ServeSettings)} - MADE_BY_THE_CHART
    return {name: {"type": ["string", "number", "boolean", "array"]} for name in sorted(names)}


def schema_with_settings() -> str:
    found = schema()
    found["properties"]["settings"]["properties"] = settings()
    return json.dumps(found, indent=2) + "\n"


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(schema_with_settings())
    for folder in VARIANTS if find_helm() else ():
        folder.mkdir(exist_ok=True)
        for name, text in rendered(folder).items():
            (folder / name).write_text(text)
    PAGE.write_text(page(PAGE.read_text()))
