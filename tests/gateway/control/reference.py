"""Writes the routes' part of docs/api.md from the operations that are served: `python -m tests.gateway.control.reference`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.control.app import control_app
from gateway.control.auth import Auth
from gateway.control.info import About
from gateway.control.openapi import PATH
from gateway.control.origin import Hosts
from gateway.monitor.monitor import Monitor
from tests.fakes.builder import FakeBuilder
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.conftest import serving

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "api.md"
BEGIN, END = "<!-- routes: made by python -m tests.gateway.control.reference -->\n", "<!-- end of routes -->\n"


def page(document: Mapping[str, Any]) -> str:
    """Return docs/api.md as it should be for the OpenAPI `document`."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{chr(10).join(_lines(document))}\n\n{END}{rest.partition(END)[2]}"


async def served() -> dict[str, Any]:
    """Return the OpenAPI document as a client gets it."""
    orchestrator = FakeOrchestrator()
    with tempfile.TemporaryDirectory() as folder:
        app = control_app(
            orchestrator=orchestrator,
            builder=FakeBuilder(),
            auth=Auth(None, b"x"),
            hosts=Hosts(),
            invocations=lambda function: 0,
            about=About("0"),
            data_dir=Path(folder),
            monitor=Monitor(orchestrator, dict, dict),
            calls=(store := SqliteStore(Path(folder))),
        )
        async with serving(app) as client:
            document: dict[str, Any] = (await client("GET", PATH)).json()
        await store.close()
    return document


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield "| method | path | what it does | query | success | errors | login |"
    yield "|---|---|---|---|---|---|---|"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            codes = sorted(operation["responses"])
            good, bad = [c for c in codes if c < "4"], [c for c in codes if c >= "4"]
            asked = operation.get("security", [])
            login = "no" if not asked else f"or {next(iter(asked[1]))}" if len(asked) > 1 else "yes"
            yield (
                f"| {method.upper()} | `{path}` | {operation['summary']} | {', '.join(f'`{p}`' for p in parameters)} |"
                f" {' '.join(good)} | {' '.join(bad)} | {login} |"
            )


if __name__ == "__main__":
    PAGE.write_text(page(asyncio.run(served())))
