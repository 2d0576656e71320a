from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from builder.oci.documents import INDEX, Index, InvalidImage, OciPlatform, encode
from builder.oci.exchange import read_image, write_archive, write_folder
from builder.oci.layout import Layout
from tests.builder.registry.test_transfer import bill, image


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_an_image_crosses_with_what_refers_to_it(layout: Layout, tmp_path: Path, form: str) -> None:
    built = image(layout, "one")
    layout.tag("hello:1", built, (bill(layout, built),))
    place = tmp_path / "out"
    (write_folder if form == "folder" else write_archive)(layout, {"hello:1": built}, place)
    other = Layout(tmp_path / "other")
    assert read_image(place, "hello:1", other).digest == built.digest
    assert other.complete(built)
    if form == "folder":
        assert len(Layout(place).referrers(built)) == 1


def test_an_exported_folder_holds_only_what_belongs_in_a_layout(layout: Layout, tmp_path: Path) -> None:
    built = image(layout, "one")
    write_folder(layout, {"hello:1": built}, tmp_path / "build" / "oci")
    assert sorted(path.name for path in (tmp_path / "build" / "oci").iterdir()) == ["blobs", "index.json", "oci-layout"]
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["oci"]


def test_the_same_image_is_the_same_archive(layout: Layout, tmp_path: Path) -> None:
    built = image(layout, "one")
    for name in ("a.tar", "b.tar"):
        write_archive(layout, {"hello:1": built}, tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_one_image_needs_no_name_and_several_do(layout: Layout, tmp_path: Path) -> None:
    one, two = image(layout, "one"), image(layout, "two")
    write_archive(layout, {"one": one}, tmp_path / "one.tar")
    write_archive(layout, {"one": one, "two": two}, tmp_path / "two.tar")
    other = Layout(tmp_path / "other")
    assert read_image(tmp_path / "one.tar", "", other).digest == one.digest
    with pytest.raises(InvalidImage, match="has 2 images; say which: one, two"):
        read_image(tmp_path / "two.tar", "", other)
    with pytest.raises(InvalidImage, match="has no image 'three'; it has one, two"):
        read_image(tmp_path / "two.tar", "three", other)


def test_of_an_index_one_platform_is_taken(layout: Layout, tmp_path: Path) -> None:
    images = tuple(image(layout, name, architecture=name) for name in ("amd64", "arm64"))
    index = layout.add(encode(Index(schema_version=2, media_type=INDEX, manifests=images)), INDEX)
    write_archive(layout, {"x": index}, tmp_path / "x.tar")
    found = read_image(tmp_path / "x.tar", "", Layout(tmp_path / "other"), OciPlatform(architecture="arm64", os="linux"))
    assert found.digest == images[1].digest


def test_changed_blobs_are_refused(layout: Layout, tmp_path: Path) -> None:
    built = image(layout, "one")
    write_archive(layout, {"x": built}, tmp_path / "x.tar")
    changed = io.BytesIO()
    with tarfile.open(tmp_path / "x.tar") as tar, tarfile.open(fileobj=changed, mode="w") as out:
        for member in tar:
            content = tar.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
            if "blobs/sha256/" in member.name and not content.startswith(b"{"):
                content = content[:-1] + b"?"
            out.addfile(member, io.BytesIO(content))
    (tmp_path / "y.tar").write_bytes(changed.getvalue())
    other = Layout(tmp_path / "other")
    with pytest.raises(InvalidImage, match="what came is not"):
        read_image(tmp_path / "y.tar", "", other)
    assert not other.complete(built)


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\0" * 2048])
def test_what_is_no_layout_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InvalidImage, match="is not an image in OCI's layout"):
        read_image(tmp_path / "x.tar", "", Layout(tmp_path / "other"))
    with pytest.raises(InvalidImage, match="is not an image in OCI's layout"):
        read_image(tmp_path, "", Layout(tmp_path / "other"))


def test_a_layout_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match=r"nowhere is not an image in OCI's layout: No such file or directory$"):
        read_image(tmp_path / "nowhere", "", Layout(tmp_path / "other"))
