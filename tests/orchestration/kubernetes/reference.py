"""Writes what is made from the code: the definition of Functions and the table of their fields in `docs/kubernetes.md`.

python -m tests.orchestration.kubernetes.reference
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from orchestration.kubernetes.crd import custom_resource_definition

ROOT = Path(__file__).parents[3]
DEFINITIONS = (
    ROOT / "deploy/helm/pinnace/files/crd.yaml",
    ROOT / "deploy/kubernetes/crd.yaml",
    ROOT / "deploy/kubernetes/apart/crd.yaml",
)
PAGE = ROOT / "docs" / "kubernetes.md"
BEGIN, END = "<!-- fields: made from the schema -->", "<!-- end of fields -->"


def fields() -> str:
    """Return the table of all fields of the spec."""
    version = custom_resource_definition()["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rows = ["| field | type | default | meaning |", "|---|---|---|---|", *_rows("", spec)]
    return "\n".join(rows)


def _rows(place: str, schema: dict[str, Any]) -> Iterator[str]:
    for name, found in schema["properties"].items():
        path = f"{place}{name}"
        default = f"`{json.dumps(found['default']).strip(chr(34))}`" if "default" in found else ""
        needed = " (needed)" if name in schema.get("required", []) else ""
        meaning = " ".join(found.get("description", "").split()).replace("|", "\\|")
        yield f"| `{path}` | {_kind(found)} | {default} | {meaning}{needed} |"
        inner = found.get("items", found)
        if "properties" in inner:
            yield from _rows(f"{path}{'[]' if inner is not found else ''}.", inner)


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = str(schema.get("type", "object"))
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    values = schema.get("additionalProperties")
    return (
        f"map of {_kind(values)}"
        if values
        else {"string": "text", "integer": "number", "boolean": "true or false"}.get(kind, kind)
    )


def definition() -> str:
    head = "# Made from orchestration/kubernetes/resource.py: python -m tests.orchestration.kubernetes.reference\n"
    return head + yaml.safe_dump(custom_resource_definition(), sort_keys=False, width=120, allow_unicode=True)


def page(text: str) -> str:
    """Return the page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{fields()}\n{END}{after}"


if __name__ == "__main__":
    for path in DEFINITIONS:
        path.write_text(definition())
    if PAGE.exists():
        PAGE.write_text(page(PAGE.read_text()))
