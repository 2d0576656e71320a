"""Fetching metrics from a replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.metrics import scraping
from gateway.metrics.scraping import CannotScrape, Scraper, path_of
from orchestration.replica import Endpoint
from telemetry.exposition import OPENMETRICS, TEXT


@asynccontextmanager
async def replica(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """A replica on a Unix socket that answers everything so; yields the heads that it got."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, str(path)):
        yield heads


@pytest.mark.parametrize(
    ("annotations", "path"),
    [
        ({}, None),
        ({"prometheus.io.scrape": "false"}, None),
        ({"prometheus.io.scrape": "true"}, "/metrics"),
        ({"prometheus.io/scrape": "True", "prometheus.io/path": "/m?x=1"}, "/m?x=1"),
        ({"prometheus.io.scrape": "true", "prometheus.io.path": "no slash"}, "/metrics"),
        ({"prometheus.io.scrape": "true", "prometheus.io.path": "/a b\r\nX: y"}, "/metrics"),
    ],
)
def test_only_functions_that_say_so_are_scraped(annotations: dict[str, str], path: str | None) -> None:
    assert path_of(annotations) == path


async def test_what_the_replica_serves_comes_back(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"2\r\nx \r\n1\r\n1\r\n0\r\n\r\n"
    async with replica(tmp_path / "s", answer) as heads:
        scraped = await Scraper().fetch(Endpoint(unix=str(tmp_path / "s")), "/metrics", "a/b")
    assert scraped == (OPENMETRICS, b"x 1")
    assert heads[0].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"Accept: a/b\r\n" in heads[0]


async def test_a_page_for_browsers_comes_back_as_plain_text(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\n<script>"
    async with replica(tmp_path / "s", answer):
        assert (await Scraper().fetch(Endpoint(unix=str(tmp_path / "s")), "/", "")).media_type == TEXT


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "answers 404 at /metrics"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 20, "longer than 10 bytes"),
        (b"nonsense\r\n\r\n", "did not answer"),
        (b"", "did not answer"),
    ],
)
async def test_what_is_no_metrics_is_said(answer: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "LONGEST_BYTES", 10)
    async with replica(tmp_path / "s", answer):
        with pytest.raises(CannotScrape, match=words):
            await Scraper().fetch(Endpoint(unix=str(tmp_path / "s")), "/metrics", "")


async def test_a_replica_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotScrape, match="did not answer"):
        await Scraper().fetch(Endpoint(unix=str(tmp_path / "nobody")), "/metrics", "")
