"""What this gateway is, and whether it lives."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.functions import json
from gateway.control.operation import Access, Content, Operation


@dataclass(frozen=True)
class About:
    """`release` is the distribution's version, `sha` the commit it was made from, where known; `orchestration` where
    functions run."""

    release: str
    sha: str = "unknown"
    orchestration: str = "local"


class VersionInfo(msgspec.Struct, frozen=True):
    release: str
    sha: str


class ProviderInfo(msgspec.Struct, frozen=True):
    provider: str
    orchestration: str
    version: VersionInfo


class GatewayInfo(msgspec.Struct, frozen=True):
    provider: ProviderInfo
    version: VersionInfo
    arch: str


async def healthz(request: Request) -> Response:
    """Answer that the API lives."""
    return Response()


HEALTH = Operation(
    id="getHealth",
    method="GET",
    path="/healthz",
    endpoint=healthz,
    summary="Tell that the control API lives",
    success={200: "It does."},
    access=Access.OPEN,
)


class Info:
    def __init__(self, about: About, auth: Auth) -> None:
        version = VersionInfo(about.release, about.sha)
        self._info = GatewayInfo(ProviderInfo("pinnace", about.orchestration, version), version, platform.machine())
        self._auth = auth

    async def info(self, request: Request) -> Response:
        self._auth.authorize(request, "read", "")
        return json(self._info)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getInfo",
                method="GET",
                path="/system/info",
                endpoint=self.info,
                summary="Tell what this gateway is",
                success={200: Content("Names and versions.", GatewayInfo)},
            ),
            HEALTH,
        )
