from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.monitor import series_file as module
from gateway.monitor.monitor import Monitor
from gateway.monitor.series import ROW_FIELDS, TIERS, Rows
from gateway.monitor.series_file import News, SeriesFile
from orchestration.names import FunctionId
from tests.gateway.edge.lab import eventually
from tests.gateway.monitor.test_monitor import Watched

SECOND, TEN, FIVE_MINUTES = TIERS
NOW = 1_700_000_000
HELLO = FunctionId("openfaas-fn", "hello")
OTHER = FunctionId("openfaas-fn", "other")


def rows(*ends: int) -> array[int]:
    return array("I", [figure for end in ends for figure in (end, *range(1, ROW_FIELDS))])


class Told:
    """A source that says what a test wants, and remembers what it got."""

    def __init__(self, fresh: Mapping[FunctionId, Rows] | None = None, gone: frozenset[FunctionId] = frozenset()) -> None:
        self.fresh = dict(fresh or {})
        self.gone = gone
        self.asked = 0
        self.restored: Mapping[FunctionId, Rows] = {}

    def restore(self, rows: Mapping[FunctionId, Rows]) -> None:
        self.restored = rows

    def news(self) -> News:
        self.asked += 1
        return News(self.fresh, self.gone)

    def written(self, news: News) -> None:
        self.fresh = {}
        self.gone = frozenset()


async def life(path: Path, told: Told | None = None, now: float = NOW) -> Told:
    """The file is read, written and left."""
    told = told or Told()
    async with SeriesFile(path, told, lambda: now):
        pass
    return told


async def test_rows_come_back_in_the_next_life(tmp_path: Path) -> None:
    fresh = {HELLO: {TEN: rows(NOW - 20, NOW - 10), FIVE_MINUTES: rows(NOW - 300)}, OTHER: {TEN: rows(NOW - 10)}}
    await life(tmp_path / "series.db", Told(fresh))
    await life(tmp_path / "series.db", Told({HELLO: {TEN: rows(NOW)}}))
    back = (await life(tmp_path / "series.db")).restored
    assert back[HELLO] == {TEN: rows(NOW - 20, NOW - 10, NOW), FIVE_MINUTES: rows(NOW - 300)}
    assert back[OTHER] == {TEN: rows(NOW - 10)}


async def test_rows_are_gone_when_nobody_looks_back_at_them(tmp_path: Path) -> None:
    await life(tmp_path / "series.db", Told({HELLO: {TEN: rows(NOW - 3590, NOW)}}))
    assert (await life(tmp_path / "series.db", now=NOW + 20)).restored == {HELLO: {TEN: rows(NOW)}}
    await life(tmp_path / "series.db", Told({OTHER: {TEN: rows(NOW + 20)}}), now=NOW + 20)
    with sqlite3.connect(tmp_path / "series.db") as connection:
        assert connection.execute("SELECT count(*) FROM rows").fetchone() == (2,)


async def test_a_removed_function_leaves_nothing_to_a_new_one_of_its_name(tmp_path: Path) -> None:
    await life(tmp_path / "series.db", Told({HELLO: {TEN: rows(NOW - 20)}}))
    await life(tmp_path / "series.db", Told({HELLO: {TEN: rows(NOW)}}, frozenset((HELLO,))))
    assert (await life(tmp_path / "series.db")).restored == {HELLO: {TEN: rows(NOW)}}


async def test_the_oldest_of_the_finest_rows_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    fresh = {HELLO: {TEN: rows(*range(NOW - 50, NOW, 10)), FIVE_MINUTES: rows(NOW - 600, NOW - 300)}}
    await life(tmp_path / "series.db", Told(fresh))
    back = (await life(tmp_path / "series.db")).restored[HELLO]
    assert back[FIVE_MINUTES] == rows(NOW - 600, NOW - 300)
    assert back[TEN][-ROW_FIELDS] == NOW - 10
    assert len(back[TEN]) // ROW_FIELDS <= 2


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file_is_put_aside_and_begun_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "series.db").write_bytes(content)
    assert (await life(tmp_path / "series.db", Told({HELLO: {TEN: rows(NOW)}}))).restored == {}
    assert len(caplog.records) == 1
    assert (tmp_path / "series.damaged").read_bytes() == content
    assert (await life(tmp_path / "series.db")).restored == {HELLO: {TEN: rows(NOW)}}


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told({HELLO: {TEN: rows(NOW)}})
    path = tmp_path / "folder" / "series.db"
    path.parent.mkdir()
    async with SeriesFile(path, told, lambda: NOW, every_s=0.01):
        holder = sqlite3.connect(path, isolation_level=None)
        for file in path.parent.iterdir():
            file.unlink()
        holder.close()
        path.mkdir()  # in its place: nothing can be opened
        await eventually(lambda: caplog.records)
        asked = told.asked
        await eventually(lambda: told.asked > asked + 3)
        assert told.fresh
        assert len(caplog.records) == 1
        path.rmdir()
        await eventually(lambda: not told.fresh)
    assert (await life(path)).restored == {HELLO: {TEN: rows(NOW)}}


async def test_a_monitor_shows_the_charts_of_its_earlier_life(tmp_path: Path) -> None:
    watched = Watched()
    path = tmp_path / "series.db"
    async with SeriesFile(path, watched.monitor, lambda: watched.now):
        await watched.deploy("hello")
        for _ in range(25):
            await watched.second(hello=2)
        before = watched.monitor.history(HELLO, TEN)
        assert sum(before.calls) >= 40
    again = Watched()
    again.now = watched.now + 5
    again.monitor = Monitor(again.orchestrator, lambda: again.tallies, dict, lambda: again.now)
    async with SeriesFile(path, again.monitor, lambda: again.now):
        await again.deploy("hello")
        assert again.monitor.history(HELLO, TEN).calls == before.calls
        for _ in range(20):
            await again.second(hello=1)
        after = again.monitor.history(HELLO, TEN)
        assert after.at == sorted(set(after.at))
        assert sum(after.calls) > sum(before.calls)


async def test_rows_are_told_until_they_are_written(tmp_path: Path) -> None:
    watched = Watched()
    await watched.deploy("hello")
    for _ in range(25):
        await watched.second(hello=2)
    first = watched.monitor.news()
    for _ in range(10):
        await watched.second(hello=2)
    both = watched.monitor.news()
    assert both.rows[HELLO][TEN][: len(first.rows[HELLO][TEN])] == first.rows[HELLO][TEN]
    watched.monitor.written(first)
    assert watched.monitor.news().rows[HELLO][TEN] == both.rows[HELLO][TEN][len(first.rows[HELLO][TEN]) :]
    watched.monitor.written(watched.monitor.news())
    assert not watched.monitor.news().rows
