"""How `queue.db` is laid out, and how a file of an older platform becomes one of today.

- `calls`: a row is a call. What nobody searches by is in one piece, `head`. A call is open (`state` 0) until it has ended; it
  waits when `waiting` has it, and runs otherwise: then `attempts` and `takes` do not count the one that goes on.
- `waiting`: which open calls wait, in the order in which a queue's are taken.
- `takes`: what was taken together, calls and their takes, until the last of them has settled. A call that runs when the
  process dies is known by it: its take is one more than its row's.
- `ends`: what ended together, with the time of the last: in this order calls are forgotten.
- `queues`: names and counts.

Times are microseconds since 1970. Ids grow with time, so their index grows at its end; `standing` is for lists, `files` for the
bodies that are kept beside the file.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.asynchronous.rows import KEPT_BYTES, microseconds, reheaded

FIRST: Final = """
    CREATE TABLE queues (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        waiting INTEGER NOT NULL DEFAULT 0,
        running INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        kept INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE calls (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        queue INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        submitted REAL NOT NULL,
        due REAL NOT NULL,
        expires REAL NOT NULL,
        ended REAL,
        attempts INTEGER NOT NULL DEFAULT 0,
        takes INTEGER NOT NULL DEFAULT 0,
        size INTEGER NOT NULL,
        key TEXT,
        request BLOB NOT NULL,
        outcome BLOB,
        body_size INTEGER NOT NULL,
        body BLOB,
        body_file TEXT,
        result_size INTEGER NOT NULL DEFAULT 0,
        result BLOB,
        result_file TEXT
    );
    CREATE INDEX waiting ON calls (queue, due) WHERE state = 0;
    CREATE INDEX standing ON calls (queue, state);
    CREATE INDEX ended ON calls (state, ended) WHERE ended IS NOT NULL;
    CREATE UNIQUE INDEX keys ON calls (queue, key) WHERE key IS NOT NULL;
    CREATE INDEX body_files ON calls (body_file) WHERE body_file IS NOT NULL;
    CREATE INDEX result_files ON calls (result_file) WHERE result_file IS NOT NULL;
    """

_SECOND: Final = f"""
    ALTER TABLE calls RENAME TO calls_1;
    DROP INDEX waiting;
    DROP INDEX standing;
    DROP INDEX ended;
    DROP INDEX keys;
    DROP INDEX body_files;
    DROP INDEX result_files;
    CREATE TABLE calls (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        queue INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL,
        ended INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        takes INTEGER NOT NULL DEFAULT 0,
        key TEXT,
        head BLOB NOT NULL,
        outcome BLOB,
        body_size INTEGER NOT NULL,
        body BLOB,
        body_file TEXT,
        result_size INTEGER NOT NULL DEFAULT 0,
        result BLOB,
        result_file TEXT
    );
    CREATE TABLE waiting (
        queue INTEGER NOT NULL,
        due INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (queue, due, seq)
    ) WITHOUT ROWID;
    CREATE TABLE takes (number INTEGER PRIMARY KEY, calls BLOB NOT NULL);
    CREATE TABLE ends (number INTEGER PRIMARY KEY, state INTEGER NOT NULL, at INTEGER NOT NULL, calls BLOB NOT NULL);
    INSERT INTO calls
        SELECT seq, id, queue, CASE state WHEN 1 THEN 0 ELSE state END, microseconds(due), microseconds(ended), attempts,
            takes, key, reheaded(request, submitted, expires), outcome, body_size, body, body_file, result_size, result,
            result_file
        FROM calls_1 ORDER BY seq;
    DROP TABLE calls_1;
    CREATE INDEX standing ON calls (queue, state);
    CREATE UNIQUE INDEX keys ON calls (queue, key) WHERE key IS NOT NULL;
    CREATE INDEX files ON calls (seq) WHERE body_file IS NOT NULL OR result_file IS NOT NULL;
    INSERT INTO waiting SELECT queue, due, seq FROM calls WHERE state = 0 ORDER BY queue, due, seq;
    INSERT INTO ends (state, at, calls)
        SELECT state, ended, CAST(printf('%16d', seq) AS BLOB) FROM calls WHERE state >= 2 ORDER BY ended;
    CREATE INDEX ends_by_time ON ends (state, at);
    UPDATE queues SET waiting = waiting + running, running = 0,
        bytes = (SELECT ifnull(sum(length(head) + body_size), 0) FROM calls WHERE queue = number AND state = 0),
        kept = (SELECT ifnull(sum({KEPT_BYTES}), 0) FROM calls WHERE queue = number AND state >= 2);
    """


def _second(connection: sqlite3.Connection) -> None:
    """Make a file of schema 1 one of schema 2: what ran waits, as it does whenever a file is opened."""
    connection.create_function("microseconds", 1, lambda s: None if s is None else microseconds(s), deterministic=True)
    connection.create_function("reheaded", 3, reheaded, deterministic=True)
    for statement in _SECOND.split(";"):
        connection.execute(statement)


MIGRATIONS: Final = (FIRST, _second)
