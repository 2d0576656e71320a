from __future__ import annotations

from pathlib import Path

import pytest

from builder.oci.archive import Entry, write_layer
from builder.oci.base import BaseContents, contents_of
from builder.oci.documents import ImageConfig, InvalidImage, Manifest, RootFs, RunConfig, descriptor_of
from builder.oci.layout import Layout
from builder.platforms import Platform

GLIBC = b"\x7fELF..GNU C Library (Debian GLIBC 2.36-9+deb12u4) stable release version 2.36.\n"
MUSL = b"\x7fELF..\0" + b"1.2.5\0..musl libc"
GLIBC_PLACE = "usr/lib/x86_64-linux-gnu/libc.so.6"


def contents(tmp_path: Path, *layers: list[Entry], env: tuple[str, ...] = ()) -> BaseContents:
    layout = Layout(tmp_path / "oci")
    blobs = [write_layer(layout, entries) for entries in layers]
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFs("layers", ()), config=RunConfig(env=env))
    manifest = Manifest(
        schema_version=2, config=descriptor_of(repr((layers, env)).encode(), "x"), layers=tuple(layer.blob for layer in blobs)
    )
    found = contents_of(layout, manifest, config)
    for layer in blobs:
        layout.discard(layer.blob.digest)
    assert contents_of(layout, manifest, config) == found  # it is kept
    return found


def test_a_debian_base(tmp_path: Path) -> None:
    entries = [Entry("usr/bin/python3.11", b""), Entry("usr/bin/python3", target="python3.11"), Entry(GLIBC_PLACE, GLIBC)]
    found = contents(tmp_path, entries)
    assert found == BaseContents("/usr/bin/python3.11", "3.11", "glibc", (2, 36))
    assert str(found.target(Platform("amd64"), "x")) == "Python 3.11 on linux/amd64 with glibc 2.36"


def test_dockers_own_python_comes_before_the_distributions(tmp_path: Path) -> None:
    entries = [Entry("usr/bin/python3.13", b""), Entry("usr/local/bin/python3.12", b""), Entry("lib/libc.so.6", GLIBC)]
    found = contents(tmp_path, entries, env=("PATH=/bin", "PYTHON_VERSION=3.12.7"))
    assert (found.python, found.python_version) == ("/usr/local/bin/python3.12", "3.12.7")


@pytest.mark.parametrize("place", ["usr/bin/python3.11", "usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"])
def test_the_exact_version_is_in_the_program(tmp_path: Path, place: str) -> None:
    files = {"usr/bin/python3.11": b"", place: b"\x7fELF\x003.11.2\x00..\x003.10.1\x00", GLIBC_PLACE: GLIBC}
    found = contents(tmp_path, [Entry(name, content) for name, content in files.items()])
    assert found.python_version == "3.11.2"


def test_an_alpine_base(tmp_path: Path) -> None:
    found = contents(tmp_path, [Entry("usr/local/bin/python3.12", b""), Entry("lib/ld-musl-x86_64.so.1", MUSL)])
    assert (found.libc, found.libc_version) == ("musl", (1, 2))


def test_what_a_later_layer_takes_away_is_gone(tmp_path: Path) -> None:
    below = [Entry("usr/bin/python3.11", b""), Entry("usr/local/bin/python3.12", b""), Entry(GLIBC_PLACE, GLIBC)]
    assert contents(tmp_path, below, [Entry("usr/local/bin/.wh.python3.12", b"")]).python == "/usr/bin/python3.11"
    assert contents(tmp_path, below, [Entry("usr/local/.wh..wh..opq", b"")]).python == "/usr/bin/python3.11"
    assert contents(tmp_path, below, [Entry("usr/.wh.local", b"")]).python == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([Entry("etc/hosts", b"")], "has no Python"),
        ([Entry("usr/bin/python3.9", b""), Entry(GLIBC_PLACE, GLIBC)], "has Python 3.9; functions need 3.11 or newer"),
        ([Entry("usr/bin/python3.12", b"")], "has neither glibc nor musl"),
    ],
)
def test_a_base_that_handlers_cannot_run_on(tmp_path: Path, entries: list[Entry], reason: str) -> None:
    found = contents(tmp_path, entries)
    with pytest.raises(InvalidImage, match=reason):
        found.target(Platform("amd64"), "x")


def test_a_layer_that_is_no_archive_is_told(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layer = layout.add(b"no gzip", "application/vnd.oci.image.layer.v1.tar+gzip")
    manifest = Manifest(schema_version=2, config=descriptor_of(b"x", "x"), layers=(layer,))
    with pytest.raises(InvalidImage, match=f"layer {layer.digest} of the base image cannot be read"):
        contents_of(layout, manifest, ImageConfig(architecture="amd64", os="linux", rootfs=RootFs("layers", ())))
