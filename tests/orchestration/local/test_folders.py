"""The data folder and the folder for sockets: locked, made, refused with a sentence."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestration.local.data_folder import DataFolder, holder
from orchestration.local.failures import DataFolderLocked, StorageError
from orchestration.local.run_folder import LONGEST_PATH_BYTES, _is_in_memory, run_folder


def test_the_lock_is_held_and_let_go(place: Path) -> None:
    with DataFolder(place / "data"):
        assert holder(place / "data") == str(os.getpid())
        with pytest.raises(
            DataFolderLocked, match=f"in use by process {os.getpid()}: stop it, or choose another with --data-dir"
        ):
            DataFolder(place / "data")
    assert holder(place / "data") == ""
    with DataFolder(place / "data"):
        pass


def test_what_cannot_be_a_folder_is_said(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(StorageError, match="cannot be used: Not a directory"):
        DataFolder(place / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_said(place: Path) -> None:
    (place / "data").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="cannot be used: Permission denied"):
        DataFolder(place / "data")


def test_the_folder_for_sockets_is_short_empty_and_removed(place: Path) -> None:
    with run_folder(None, "0123456789abcdef") as path:
        assert len(str(path)) < LONGEST_PATH_BYTES - 16
        assert not stat.S_IMODE(path.stat().st_mode) & 0o066
        (path / "1.sock").touch()
    assert not path.exists()
    with pytest.raises(StorageError, match="too long a name"), run_folder(place / ("x" * 90), "abc"):
        pass


@pytest.mark.parametrize(
    ("mounts", "in_memory"),
    [
        ("22 1 0:21 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,mode=755", True),
        ("22 1 0:21 / /run/lock rw,nosuid shared:5 - tmpfs tmpfs rw", False),
        ("22 1 0:21 / /run rw - tmpfs tmpfs rw\n23 1 0:22 / /run rw - ext4 /dev/vda rw", False),
        ("22 1 254:0 / / rw - ext4 /dev/vda rw", False),
    ],
)
def test_a_folder_is_in_memory_where_tmpfs_is_mounted_last(place: Path, mounts: str, in_memory: bool) -> None:
    (place / "mountinfo").write_text(mounts + "\n")
    assert _is_in_memory("/run", place / "mountinfo") == in_memory
    assert not _is_in_memory("/run", place / "nowhere")


def test_without_the_usual_folders_the_one_for_temporary_files_serves(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    with run_folder(None, "abc") as path:
        assert path == place / "pinnace-abc"
