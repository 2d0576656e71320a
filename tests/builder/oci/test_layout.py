from __future__ import annotations

from pathlib import Path

import pytest

from builder.oci.documents import (
    CONFIG,
    EMPTY,
    LAYER,
    MANIFEST,
    Descriptor,
    InvalidImage,
    Manifest,
    descriptor_of,
    encode,
)
from builder.oci.layout import Layout


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def layout(tmp_path: Path, clock: Clock) -> Layout:
    return Layout(tmp_path / "oci", clock)


def image(layout: Layout, text: str, subject: Descriptor | None = None) -> Descriptor:
    config = layout.add(f'{{"{text}":0}}'.encode(), CONFIG if subject is None else EMPTY)
    layer = layout.add(text.encode(), LAYER)
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST,
        config=config,
        layers=(layer,),
        subject=subject.bare() if subject else None,
        artifact_type="application/x-bill" if subject else None,
    )
    stored = layout.add(encode(manifest), MANIFEST)
    return Descriptor(
        media_type=MANIFEST, digest=stored.digest, size=stored.size, artifact_type="application/x-bill" if subject else None
    )


def test_what_is_kept_is_read_back(layout: Layout) -> None:
    blob = layout.add(b"hello", LAYER)
    assert layout.has(blob)
    assert layout.read(blob) == b"hello"
    assert (layout.root / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'


def test_a_blob_of_another_size_is_not_there_and_goes(layout: Layout) -> None:
    blob = layout.add(b"hello", LAYER)
    layout.path(blob.digest).write_bytes(b"hel")
    assert not layout.has(blob)
    assert not layout.path(blob.digest).exists()


def test_a_damaged_blob_is_told_and_goes(layout: Layout) -> None:
    blob = layout.add(b"hello", LAYER)
    layout.path(blob.digest).write_bytes(b"hellO")
    with pytest.raises(InvalidImage, match="was damaged and has been removed: build or pull it again"):
        layout.read(blob)
    assert not layout.has(blob)


def test_a_blob_that_is_not_finished_leaves_nothing(layout: Layout) -> None:
    with pytest.raises(RuntimeError), layout.new_blob() as new:
        new.write(b"half")
        raise RuntimeError
    assert list(layout.blobs.iterdir()) == []


def test_a_blob_must_be_the_one_that_was_expected(layout: Layout) -> None:
    with pytest.raises(InvalidImage, match="it was changed on its way"), layout.new_blob() as new:
        new.write(b"other")
        new.commit(LAYER, descriptor_of(b"hello", LAYER))
    assert list(layout.blobs.iterdir()) == []


@pytest.mark.parametrize(
    "digest", ["sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:../../../etc/passwd" + "a" * 42]
)
def test_what_is_no_digest_never_becomes_a_path(layout: Layout, digest: str) -> None:
    with pytest.raises(InvalidImage, match="is not a digest"):
        layout.path(digest)


def test_a_name_stands_for_what_it_was_given_last(layout: Layout) -> None:
    layout.tag("hello:1", image(layout, "a"))
    second = image(layout, "b")
    layout.tag("hello:1", second)
    found = layout.find("hello:1")
    assert found is not None
    assert found.digest == second.digest
    assert list(layout.names()) == ["hello:1"]
    assert layout.find("hello:2") is None


def test_an_image_with_a_missing_part_is_not_found(layout: Layout) -> None:
    built = image(layout, "a")
    layout.tag("hello:1", built)
    layout.discard(descriptor_of(b"a", LAYER).digest)
    assert layout.find("hello:1") is None


def test_what_refers_to_an_image_is_listed_with_it(layout: Layout) -> None:
    built = image(layout, "a")
    bill = image(layout, "bill", built)
    layout.tag("hello:1", built, (bill,))
    layout.tag("hello:1", built, (bill,))
    assert [entry.digest for entry in layout.referrers(built)] == [bill.digest]
    assert len(layout.contents()) == 2


def test_what_no_name_needs_goes_when_nobody_wanted_it(layout: Layout, clock: Clock) -> None:
    old = image(layout, "old")
    layout.tag("hello:1", old, (image(layout, "old bill", old),))
    new = image(layout, "new")
    layout.tag("hello:1", new, (image(layout, "new bill", new),))
    for path in layout.blobs.iterdir():
        import os

        os.utime(path, (clock.now, clock.now))
    assert layout.collect(before=clock.now) == 0
    clock.now += 100
    wanted = descriptor_of(b"old", LAYER)
    assert layout.has(wanted)  # a layer that another build may use
    layout.collect(before=clock.now - 50)
    assert layout.find("hello:1") is not None
    assert len(layout.referrers(new)) == 1
    assert not layout.complete(old)
    assert layout.has(wanted)
    assert len(layout.contents()) == 2
