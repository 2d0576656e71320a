"""Functions of a stack file as Function resources, for `kubectl apply` and GitOps."""

from __future__ import annotations

import msgspec
import yaml
from starlette.exceptions import HTTPException

from cli.deployment import request_of
from cli.errors import Misuse
from cli.stack import StackFunction
from gateway.control.wire import FunctionDeployment, namespace_of, to_spec
from orchestration.kubernetes.record import function_manifest
from orchestration.names import InvalidName
from orchestration.quantity import InvalidQuantity
from orchestration.settings import InvalidSetting


def manifest_of(function: StackFunction, image: str) -> dict[str, object]:
    """Return the Function that says what a deploy of `function` with `image` would. Raises Misuse."""
    try:
        deployment = msgspec.convert(request_of(function, image), FunctionDeployment)
        return function_manifest(to_spec(deployment, namespace_of(deployment.namespace)))
    except HTTPException as error:
        raise Misuse(f"{function.name}: {error.detail}") from None
    except (InvalidName, InvalidQuantity, InvalidSetting, msgspec.ValidationError) as error:
        raise Misuse(f"{function.name}: {error}") from None


def documents(manifests: list[dict[str, object]]) -> str:
    """Return them as YAML documents."""
    return "---\n".join(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120) for manifest in manifests)
