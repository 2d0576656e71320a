from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.oci.archive import COMPRESSIONS, Compression, Entry, archive_of, opened, write_layer
from builder.oci.documents import InvalidImage
from builder.oci.layout import Layout

ENTRIES = [
    Entry("app/b.py", b"print()\n"),
    Entry("app/a.py", b"x" * 1000, executable=True),
    Entry("app/link", target="a.py"),
    Entry("empty"),
    Entry("app-2/z", b""),
]


def members(content: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getmembers()


def test_folders_come_before_what_is_in_them_sorted_and_without_times_and_owners() -> None:
    found = members(b"".join(archive_of(ENTRIES)))
    assert [member.name for member in found] == ["app", "app/a.py", "app/b.py", "app/link", "app-2", "app-2/z", "empty"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in found} == {(0, 0, 0, "", "")}
    assert [oct(member.mode) for member in found] == ["0o755", "0o755", "0o644", "0o777", "0o755", "0o644", "0o755"]


def test_the_order_in_which_entries_come_does_not_matter() -> None:
    assert b"".join(archive_of(ENTRIES)) == b"".join(archive_of(reversed(ENTRIES)))


@pytest.mark.parametrize(("name", "plain"), [("a" * 99, True), ("b/" * 60 + "c" * 90, True), ("d" * 150, False), ("ü", False)])
def test_only_names_that_do_not_fit_get_a_pax_record(name: str, plain: bool) -> None:
    content = b"".join(archive_of([Entry(name, b"x")]))
    assert members(content)[-1].name == name
    assert (b"PaxHeader" not in content) is plain


def test_a_name_that_comes_twice_is_an_error() -> None:
    with pytest.raises(InvalidImage, match="'a' is in the layer twice"):
        list(archive_of([Entry("a", b"1"), Entry("a", b"2")]))


names = st.lists(st.text("abcü-. ", min_size=1, max_size=40).filter(lambda n: n not in (".", "..")), min_size=1, max_size=4)


@given(st.dictionaries(names.map("/".join), st.binary(max_size=2000), max_size=8))
def test_every_archive_reads_back(files: dict[str, bytes]) -> None:
    taken = {"/".join(name.split("/")[:n]) for name in files for n in range(1, name.count("/") + 1)}
    files = {name: content for name, content in files.items() if name not in taken}
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive_of(Entry(n, c) for n, c in files.items())))) as tar:
        read = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
    assert read == files


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_layer_has_two_digests_and_reads_back(tmp_path: Path, compression: Compression) -> None:
    layout = Layout(tmp_path)
    layer = write_layer(layout, ENTRIES, compression)
    assert write_layer(layout, ENTRIES, compression) == layer
    assert layout.has(layer.blob)
    assert (layer.diff_id == layer.blob.digest) is (compression == "none")
    with layout.path(layer.blob.digest).open("rb") as file:
        assert opened(file, layer.blob.media_type).read() == b"".join(archive_of(ENTRIES))


def test_the_gzip_header_holds_no_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    head = layout.path(write_layer(layout, ENTRIES).blob.digest).read_bytes()[:10]
    assert head[4:8] == bytes(4)


def test_an_unknown_compression_is_told() -> None:
    with pytest.raises(InvalidImage, match="a layer of media type 'application/x-bzip2' cannot be read"):
        opened(io.BytesIO(), "application/x-bzip2")
