"""Whatever is killed with `kill -9` and whenever: what was acknowledged is carried out, and ends once.

PINNACE_CHAOS=full makes it 10,000 submissions and 60 kills with each store, in some minutes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.asynchronous.chaos import Chaos, Place, judged
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

SUBMISSIONS, KILLS = (10_000, 60) if os.environ.get("PINNACE_CHAOS") == "full" else (1000, 9)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose sockets have short names."""
    folder = Path(tempfile.mkdtemp(prefix="pinnace-chaos-"))
    yield folder
    shutil.rmtree(folder)


async def test_sqlite_loses_nothing_when_its_process_is_killed(short_path: Path) -> None:
    place = Place(str(short_path))
    told = await Chaos(place, 1).run(SUBMISSIONS, KILLS)
    assert told.kills.total() == KILLS
    await judged(place, told)


async def test_redis_loses_nothing_when_gateways_and_server_are_killed(short_path: Path) -> None:
    needs_redis()
    with RedisServer() as server:
        place = Place(str(short_path), server.settings)
        told = await Chaos(place, 2, server).run(SUBMISSIONS, KILLS)
        assert told.kills == {"gateway-0": KILLS // 3, "gateway-1": KILLS // 3, "redis": KILLS // 3}
        await judged(place, told)
