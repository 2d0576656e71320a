"""What a deploy asks for: the desired state that a user wrote, kept whole so that it reads back as it was sent."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestration.names import DEFAULT_NAMESPACE, FunctionId


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Kubernetes quantities, kept as the text the user sent. `None` means not set."""

    memory: str | None = None
    cpu: str | None = None


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a deploy asks for. `None` means absent, which is told apart from empty when the spec is read back."""

    service: str
    image: str
    namespace: str = DEFAULT_NAMESPACE
    env_process: str | None = None
    env_vars: Mapping[str, str] | None = None
    constraints: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False

    @property
    def id(self) -> FunctionId:
        return FunctionId(self.namespace, self.service)
