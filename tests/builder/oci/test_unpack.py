"""Layers from strangers: what is taken and what is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from builder.oci.archive import Entry, write_layer
from builder.oci.documents import LAYER, LAYER_GZIP, InvalidImage
from builder.oci.layout import Layout
from builder.oci.unpack import UnpackLimits, unpack_layer

PLACE = "home/app"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, size
    return info


def archive(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for each in members:
            tar.addfile(each, io.BytesIO(bytes(each.size)))
    return out.getvalue()


def unpack(layout: Layout, tmp_path: Path, content: bytes, limits: UnpackLimits | None = None) -> Path:
    out = tmp_path / "out"
    unpack_layer(layout, layout.add(content, LAYER), PLACE, out, limits=limits)
    return out


def test_our_own_layers_come_back(layout: Layout, tmp_path: Path) -> None:
    entries = [Entry("home/app/a", b"1", executable=True), Entry("home/app/b/c", b"2"), Entry("home/app/d", target="b/c")]
    for compression in ("gzip", "zstd"):
        layer = write_layer(layout, entries, compression)
        out = tmp_path / compression
        unpack_layer(layout, layer.blob, PLACE, out)
        assert (out / "a").stat().st_mode & 0o777 == 0o755
        assert (out / "d").read_bytes() == b"2"
        assert sorted(path.name for path in out.iterdir()) == ["a", "b", "d"]


def test_what_is_left_out_does_not_arrive(layout: Layout, tmp_path: Path) -> None:
    layer = write_layer(layout, [Entry("home/app/a.py", b""), Entry("home/app/__pycache__/a.pyc", b"")])
    unpack_layer(layout, layer.blob, PLACE, tmp_path / "out", leaves_out=lambda path: "__pycache__" in path.parts)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.py"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (member("home/app/../../etc/cron.d/x"), "leaves its layer"),
        (member("../x"), "leaves its layer"),
        (member("/etc/passwd"), "leaves its layer"),
        (member("etc/passwd"), "is not below home/app"),
        (member("home/application/x"), "is not below home/app"),
        (member("home", tarfile.SYMTYPE, link="/etc"), "is not below home/app"),
        (member("home/app/x", tarfile.SYMTYPE, link="/etc/passwd"), "outside of its layer"),
        (member("home/app/x", tarfile.SYMTYPE, link="../../etc/passwd"), "outside of its layer"),
        (member("home/app/x", tarfile.SYMTYPE, link="x"), "leads round in a circle"),
        (member("home/app/x", tarfile.LNKTYPE, link="etc/passwd"), "is a hard link"),
        (member("home/app/x", tarfile.CHRTYPE), "is a device or a pipe"),
        (member("home/app/x", tarfile.BLKTYPE), "is a device or a pipe"),
        (member("home/app/x", tarfile.FIFOTYPE), "is a device or a pipe"),
        (member("home/app/x", mode=0o4755), "has a setuid, setgid or sticky bit"),
        (member("home/app/.wh.a"), "takes something away"),
        (member("home/app/" + "a/" * 600), "has more than 1024 characters"),
    ],
)
def test_what_our_layers_never_hold_is_refused(layout: Layout, tmp_path: Path, bad: tarfile.TarInfo, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        unpack(layout, tmp_path, archive(member("home/app/good"), bad))
    assert not (tmp_path / "etc").exists()


def test_no_file_is_written_through_a_link(layout: Layout, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    content = archive(member("home/app/x", tarfile.SYMTYPE, link=str(outside)), member("home/app/x/evil", size=4))
    with pytest.raises(InvalidImage):
        unpack(layout, tmp_path, content)
    assert list(outside.iterdir()) == []


def test_names_that_come_twice_are_refused(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="is in the layer twice"):
        unpack(layout, tmp_path, archive(member("home/app/x"), member("home/app/x")))
    with pytest.raises(InvalidImage, match="is in the layer twice"):
        unpack(layout, tmp_path, archive(member("home/app/x"), member("home/app/x/y")))


def test_a_gigabyte_in_a_megabyte_is_refused_before_it_is_written(layout: Layout, tmp_path: Path) -> None:
    head = member("home/app/x", size=1 << 30).tobuf()
    packed = layout.add(gzip.compress(head + bytes(1 << 20), 1), LAYER_GZIP)
    with pytest.raises(InvalidImage, match="'home/app/x' is 1073741824 bytes; a file may have at most 536870912"):
        unpack_layer(layout, packed, PLACE, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_hundred_thousand_files_are_too_many(layout: Layout, tmp_path: Path) -> None:
    block = member("home/app/x", tarfile.DIRTYPE).tobuf()
    packed = layout.add(gzip.compress(block * 100_001, 1), LAYER_GZIP)
    with pytest.raises(InvalidImage, match="a layer has more than 100000 files"):
        unpack_layer(layout, packed, PLACE, tmp_path / "out")


def test_the_sum_counts_too(layout: Layout, tmp_path: Path) -> None:
    content = archive(*(member(f"home/app/{n}", size=600) for n in range(2)))
    with pytest.raises(InvalidImage, match="unpacks to more than 1000 bytes"):
        unpack(layout, tmp_path, content, UnpackLimits(total_bytes=1000))


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"no tar" * 200), gzip.compress(archive(member("home/app/x", size=9)))[:60]]
)
def test_what_is_no_archive_is_told(layout: Layout, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidImage, match="cannot be read"):
        unpack_layer(layout, layout.add(content, LAYER_GZIP), PLACE, tmp_path / "out")
