"""What this gateway is, whether it lives, and the page a browser is shown."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.control.auth import Auth
from gateway.control.functions import json
from gateway.control.operation import Access, Content, Operation

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Pinnace</title>
<style>body{font:16px/1.5 system-ui;max-width:40em;margin:4em auto;padding:0 1em}</style>
<h1>Pinnace</h1>
<p>The page comes later; until then use the command line: <code>faas --help</code>.</p>
<ul>
<li><a href="/system/functions">functions</a></li>
<li><a href="/system/namespaces">namespaces</a></li>
<li><a href="/system/info">about this gateway</a></li>
<li><a href="/api/v1/openapi.json">API description</a></li>
</ul>
</html>
"""
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


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

    async def root(self, request: Request) -> Response:
        return RedirectResponse("/ui/", 307)

    async def page(self, request: Request) -> Response:
        self._auth.authorize(request, "read", "")
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": PAGE_POLICY})

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
            Operation(
                id="getRoot",
                method="GET",
                path="/",
                endpoint=self.root,
                summary="Send a browser to the page",
                success={307: "To `/ui/`."},
                access=Access.OPEN,
            ),
            Operation(
                id="getPage",
                method="GET",
                path="/ui/",
                endpoint=self.page,
                summary="Show the page",
                success={200: Content("The page.", None, "text/html")},
            ),
        )
