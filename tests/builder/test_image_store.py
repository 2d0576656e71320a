from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.image_store import GRACE_S, LOCK_GRACE_S, PRESSED_GRACE_S, ImageStore, default_folder
from builder.oci.archive import Entry, LayerBlob, write_layer
from builder.oci.documents import LAYER
from tests.builder.registry.test_transfer import image


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> ImageStore:
    return ImageStore(tmp_path / "store", quota_bytes=10_000, clock=clock)


def age(store: ImageStore, clock: Clock) -> None:
    """Everything was last wanted now."""
    for path in store.root.rglob("*"):
        if path.is_file():
            os.utime(path, (clock.now, clock.now))


def make(store: ImageStore, text: str) -> LayerBlob:
    return write_layer(store.layout, [Entry("x", text.encode())])


def test_a_layer_is_made_once_for_the_same_inputs(store: ImageStore) -> None:
    made = []

    def first() -> LayerBlob:
        made.append(1)
        return make(store, "one")

    assert not store.knows(["a", 1])
    assert store.layer(["a", 1], first)[1]
    assert store.knows(["a", 1])
    assert not store.layer(["a", 1], first)[1]
    assert store.layer(["a", 2], lambda: make(store, "two"))[1]
    assert made == [1]


def test_a_layer_whose_blob_is_gone_is_made_again(store: ImageStore) -> None:
    layer, _ = store.layer("a", lambda: make(store, "one"))
    store.layout.discard(layer.blob.digest)
    assert store.layer("a", lambda: make(store, "one")) == (layer, True)


def test_small_values_are_remembered(store: ImageStore) -> None:
    assert store.remembered("a", list[int], lambda: [1]) == [1]
    assert store.remembered("a", list[int], lambda: [2]) == [1]
    assert store.remembered("a", list[str], lambda: ["other"]) == ["other"]  # of another kind: made anew


def test_what_nobody_wants_goes_after_a_while_and_names_stay(store: ImageStore, clock: Clock) -> None:
    named = image(store.layout, "named")
    store.layout.tag("hello:1", named)
    store.layer("a", lambda: make(store, "unnamed"))
    store.locks.mkdir()
    (store.locks / "lock.json").write_text("{}")
    age(store, clock)
    assert store.collect(clock.now + GRACE_S - 1) == 0
    assert store.collect(clock.now + GRACE_S + 1) > 0
    assert store.layout.find("hello:1") is not None
    assert not store.knows("a")
    assert (store.locks / "lock.json").exists()
    store.collect(clock.now + LOCK_GRACE_S + 1)
    assert not (store.locks / "lock.json").exists()


def test_over_the_quota_the_longest_unwanted_go_sooner(store: ImageStore, clock: Clock) -> None:
    blobs = [store.layout.add(bytes([number]) * 4000, LAYER) for number in range(4)]
    for number, blob in enumerate(blobs):
        os.utime(store.layout.path(blob.digest), (clock.now + number, clock.now + number))
    assert store.collect(clock.now + PRESSED_GRACE_S - 10) == 0  # a build may be about to use them
    assert store.collect(clock.now + PRESSED_GRACE_S + 10) == 8000
    assert [store.layout.path(blob.digest).exists() for blob in blobs] == [False, False, True, True]


def test_collecting_sometimes_is_once_a_day(store: ImageStore, clock: Clock) -> None:
    store.collect_sometimes()
    blob = store.layout.add(b"x", LAYER)
    os.utime(store.layout.path(blob.digest), (0, 0))
    store.collect_sometimes()
    assert store.layout.path(blob.digest).exists()
    clock.now += 25 * 3600
    store.collect_sometimes()
    assert not store.layout.path(blob.digest).exists()


def test_where_the_command_line_keeps_images(tmp_path: Path) -> None:
    assert default_folder({"PINNACE_IMAGES": str(tmp_path)}) == tmp_path
    assert default_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "pinnace" / "oci"
    assert default_folder({}) == Path.home() / ".cache" / "pinnace" / "oci"
