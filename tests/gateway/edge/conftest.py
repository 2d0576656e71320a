"""A lab for each test; everything runs on uvloop, as the platform does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from gateway.edge.settings import EdgeSettings
from tests.gateway.edge.lab import Lab

MakeLab = Callable[..., Awaitable[Lab]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="edge") as name:
        yield Path(name)


@pytest.fixture
async def make_lab(folder: Path) -> AsyncIterator[MakeLab]:
    """Make a lab whose edge has the given settings."""
    labs: list[Lab] = []

    async def make(**settings: object) -> Lab:
        lab = Lab(folder)
        await lab.start(EdgeSettings(port=0, **settings))  # type: ignore[arg-type]
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        await lab.stop()


@pytest.fixture
async def lab(make_lab: MakeLab) -> Lab:
    """A lab with default settings."""
    return await make_lab()
