"""A bill of materials for an image: CycloneDX 1.5 as JSON, from the metadata of the wheels that are in it.

Who runs `pip-audit`, `trivy` or `grype` over it need not unpack the image. It depends on nothing but its content: the same
image has the same bill, to the byte. Packages of the base image are its maker's to list; here it is one component.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from builder.oci.documents import Descriptor
from builder.wheelhouse import LockedWheel
from builder.wheels import Distribution

CYCLONEDX = "application/vnd.cyclonedx+json"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, names that are URLs


def cyclonedx(
    image: Descriptor,
    base_name: str,
    base_digest: str,
    packages: Sequence[tuple[LockedWheel, Distribution]],
    created: str,
    *,
    name: str = "function",
) -> bytes:
    """Return the bill of the image whose manifest is `image`, called `name`; `created` is RFC 3339."""
    listed = sorted((_component(wheel, said) for wheel, said in packages), key=lambda component: str(component["bom-ref"]))
    base_ref = f"pkg:oci/{quote(base_name.rpartition('/')[2].partition(':')[0])}@{quote(base_digest, safe='')}"
    base = {"type": "container", "bom-ref": base_ref, "name": base_name, "version": base_digest, "purl": base_ref}
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, image.digest)}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {"components": [{"type": "application", "name": "pinnace"}]},
            "component": {"type": "container", "bom-ref": image.digest, "name": name, "version": image.digest},
        },
        "components": [base, *listed],
        "dependencies": [{"ref": image.digest, "dependsOn": [base_ref, *(c["bom-ref"] for c in listed)]}],
    }
    return msgspec.json.encode(content)


def _component(wheel: LockedWheel, said: Distribution) -> dict[str, Any]:
    name = re.sub(r"[-_.]+", "-", said.name).lower()  # as package URLs want it (purl specification, pypi)
    purl = f"pkg:pypi/{quote(name)}@{quote(said.version, safe='')}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": said.name,
        "version": said.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "properties": [{"name": "pinnace:wheel", "value": wheel.name}],
    }
    if said.summary:
        component["description"] = said.summary
    if said.license:
        component["licenses"] = [{"license": {"name": said.license}}]
    if said.home_page.startswith(("http://", "https://")):
        component["externalReferences"] = [{"type": "website", "url": said.home_page}]
    return component
