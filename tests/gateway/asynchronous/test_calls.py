"""Ids of calls are UUIDs of version 7 that nobody guesses."""

from __future__ import annotations

import uuid

from gateway.asynchronous.calls import new_id


def test_an_id_is_a_uuid_of_version_7_that_begins_with_its_time() -> None:
    ids = [uuid.UUID(new_id(1_700_000_000.123)) for _ in range(200)]
    assert len(set(ids)) == 200
    assert {(made.version, made.variant, made.int >> 80) for made in ids} == {(7, uuid.RFC_4122, 1_700_000_000_123)}
    ones, zeros = 0, 0
    for made in ids:
        ones |= made.int
        zeros |= ~made.int
    assert (ones & zeros & (2**80 - 1)).bit_count() == 74, "each bit that is not the version's or the variant's varies"


def test_ids_sort_by_time() -> None:
    made = [new_id(1_700_000_000 + step / 100) for step in range(100)]
    assert made == sorted(made) and all(text == str(uuid.UUID(text)) for text in made)
