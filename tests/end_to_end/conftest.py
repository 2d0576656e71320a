from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.platform import Platform, running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all tests of a module; each test names its functions differently."""
    with running(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform that the test may kill."""
    with running(tmp_path) as platform:
        yield platform
