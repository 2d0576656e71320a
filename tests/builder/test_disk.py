from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from builder.disk import (
    FOLDER_MODE,
    locked_folder,
    make_folder,
    remove_tree,
    remove_unless_locked,
    sweep_unfinished_files,
    tree_size_bytes,
    write_durably,
)

PATIENCE_S = 10.0


@pytest.fixture
def trash(tmp_path: Path) -> Path:
    folder = tmp_path / "trash"
    folder.mkdir()
    return folder


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    os.umask(0o077)
    try:
        write_durably(path, b"one")
        assert path.stat().st_mode & 0o777 == 0o644
        write_durably(path, b"two", 0o600)
    finally:
        os.umask(0o022)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def full(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_old_unfinished_files_are_swept(tmp_path: Path) -> None:
    old, young, other = tmp_path / ".new-old", tmp_path / ".new-young", tmp_path / "other"
    for path, at in ((old, 0.0), (young, 9_000.0), (other, 0.0)):
        path.touch()
        os.utime(path, (at, at))
    sweep_unfinished_files(tmp_path, 10_000.0)
    assert {path.name for path in tmp_path.iterdir()} == {".new-young", "other"}


def test_a_second_holder_is_told_and_waits_for_the_first(tmp_path: Path) -> None:
    waiting, order = threading.Event(), list[str]()

    def second() -> None:
        with locked_folder(tmp_path / "folder", waiting.set):
            order.append("second")

    with locked_folder(tmp_path / "folder", lambda: order.append("told for nothing")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(PATIENCE_S)
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_a_folder_removed_by_its_holder_is_made_anew_for_who_waits(tmp_path: Path, trash: Path) -> None:
    waiting, found = threading.Event(), list[bool]()
    folder = tmp_path / "folder"

    def second() -> None:
        with locked_folder(folder, waiting.set):
            found.append(folder.is_dir() and not any(folder.iterdir()))

    with locked_folder(folder):
        (folder / "file").touch()
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(PATIENCE_S)
        remove_tree(folder, trash)
    thread.join(PATIENCE_S)
    assert found == [True]


def test_a_locked_folder_is_not_removed(tmp_path: Path, trash: Path) -> None:
    folder = tmp_path / "folder"
    with locked_folder(folder):
        assert not remove_unless_locked(folder, trash)
        assert folder.is_dir()
    assert remove_unless_locked(folder, trash)
    assert not folder.exists()
    assert remove_unless_locked(folder, trash)
    assert list(trash.iterdir()) == []


def test_size_counts_files_and_not_what_links_lead_to(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", FOLDER_MODE)
    (tmp_path / "a" / "b" / "file").write_bytes(b"12345")
    (tmp_path / "a" / "link").symlink_to("b/file")
    assert tree_size_bytes(tmp_path / "a") == 5 + len("b/file")
