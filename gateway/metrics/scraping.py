"""Metrics that a function serves itself: fetched from one of its replicas, past the queue, so that asking wakes nothing."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from orchestration.replica import Endpoint
from telemetry.exposition import OPENMETRICS, TEXT

WANTED: Final = ("prometheus.io.scrape", "prometheus.io/scrape")
"""The annotations, OpenFaaS's spelling and Prometheus's usual one, with which a function says `true`."""
PATHS: Final = ("prometheus.io.path", "prometheus.io/path")
DEFAULT_PATH: Final = "/metrics"
WITHIN_S: Final = 5.0
LONGEST_BYTES: Final = 8 * 1024 * 1024
AT_A_TIME: Final = 8


class CannotScrape(Exception):
    """The replica gave no metrics; the message is one line that says why."""


class Scraped(NamedTuple):
    """What it gave, under one of the two media types of metrics, whatever it called it itself."""

    media_type: str
    body: bytes


def path_of(annotations: Mapping[str, str]) -> str | None:
    """Return the path at which a function with these annotations serves metrics; None when it does not say that it does."""
    if not any(annotations.get(name, "").strip().lower() == "true" for name in WANTED):
        return None
    path = next((annotations[name].strip() for name in PATHS if annotations.get(name, "").strip()), DEFAULT_PATH)
    return path if path.startswith("/") and path.isascii() and path.isprintable() and " " not in path else DEFAULT_PATH


class Scraper:
    """Fetches, at most `AT_A_TIME` at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def fetch(self, endpoint: Endpoint, path: str, accept: str) -> Scraped:
        """Return what the replica at `endpoint` serves at `path`. Raises CannotScrape."""
        async with self._turns:
            return await asyncio.to_thread(_fetch, endpoint, path, accept)


def _fetch(endpoint: Endpoint, path: str, accept: str) -> Scraped:
    connection = _Connection(endpoint)
    try:
        connection.request("GET", path, headers={"Accept": accept or "text/plain", "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise CannotScrape(f"the replica answers {answer.status} at {path}")
        body = answer.read(LONGEST_BYTES + 1)
        if len(body) > LONGEST_BYTES:
            raise CannotScrape(f"the replica's metrics are longer than {LONGEST_BYTES} bytes")
        said = answer.headers.get_content_type()
        return Scraped(OPENMETRICS if said == "application/openmetrics-text" else TEXT, body)
    except (OSError, http.client.HTTPException) as error:
        raise CannotScrape(f"the replica did not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to a replica, also by way of a Unix socket."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.host or "localhost", endpoint.port or 80, timeout=WITHIN_S)
        self._unix = endpoint.unix

    def connect(self) -> None:
        if self._unix is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WITHIN_S)
        self.sock.connect(self._unix)
