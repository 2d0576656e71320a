"""Callers are told what is wrong, and not where."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.asynchronous.refusals import without_places

FOLDER = Path("/srv/my data/pinnace")


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (
            f"the disk that holds {FOLDER} is full: nothing was kept; free some space",
            "the disk that holds the data folder is full: nothing was kept; free some space",
        ),
        (f"{FOLDER}/queue.db: disk I/O error", "queue.db: disk I/O error"),
        (f"{FOLDER}/queue-bodies: No space left on device", "queue-bodies: No space left on device"),
        ("/elsewhere/spool/4f: Permission denied", "…: Permission denied"),
        (
            "the Redis server redis://10.0.0.7:6379/0 is not reached: Error 111 connecting to 10.0.0.7:6379. Refused.",
            "the Redis server … is not reached: Error 111 connecting to …. Refused.",
        ),
        ("the Redis server unix:///run/redis.sock is loading its data", "the Redis server … is loading its data"),
        ("20000 changes wait already; and/or the disk is slow", "20000 changes wait already; and/or the disk is slow"),
    ],
)
def test_places_are_left_out(why: str, told: str) -> None:
    assert without_places(why, FOLDER) == told
