"""A data folder, bundles, an orchestrator, and a watch of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestration.local.orchestrator import LocalOrchestrator
from tests.orchestration.local.functions import Functions
from tests.orchestration.local.world import PROGRAM, Bundles, Watch, watching


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everyone may enter: functions run as users of their own. Not the closed one of the test run."""
    path = Path(tempfile.mkdtemp(prefix="pin-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def bundles(place: Path) -> Bundles:
    code = place / "code"
    code.mkdir()
    shutil.copy(PROGRAM, code)
    return Bundles(code)


@pytest.fixture
def functions(place: Path) -> Functions:
    return Functions(place / "functions")


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No replica is asked whether it is ready, by one connection more: on a busy machine a start may look like silence."""
    monkeypatch.setattr("orchestration.local.readiness.SILENT_FOR_S", 60.0)


@pytest.fixture
async def orchestrator(place: Path, bundles: Bundles) -> AsyncIterator[LocalOrchestrator]:
    async with LocalOrchestrator.open(place / "data", bundles) as opened:
        yield opened


@pytest.fixture
async def watch(orchestrator: LocalOrchestrator) -> AsyncIterator[Watch]:
    async with watching(orchestrator) as made:
        yield made
