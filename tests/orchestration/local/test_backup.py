"""A backup holds what a new start needs, and a restore gives it back, also in another place."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import stat
import sys
import tarfile
from pathlib import Path

import pytest

from orchestration.local.backup import ABOUT, CONTENTS, FORMAT, backup, restore
from orchestration.local.failures import DataFolderLocked, StorageError
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE
from tests.orchestration.local.world import Bundles, get, spec, watching

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def venv_layer(data: Path, name: str, interpreter: Path, version: str = VERSION) -> Path:
    layer = data / "layers" / name
    (layer / "bin").mkdir(parents=True)
    (layer / "lib" / version).mkdir(parents=True)
    (layer / "lib64").symlink_to("lib")
    (layer / "bin" / "python").symlink_to(interpreter)
    (layer / "bin" / "tool").write_text(f"#!{layer}/bin/python\nprint()\n")
    (layer / "bin" / "tool").chmod(0o755)
    (layer / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\nversion = 3\n")
    return layer


async def test_a_backup_of_a_running_platform_starts_elsewhere(place: Path, bundles: Bundles) -> None:
    data, file = place / "data", place / "backup.tar"
    async with LocalOrchestrator.open(data, bundles) as orchestrator:
        function = await orchestrator.apply(spec(secrets=None))
        await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"value")
        (data / "payload-secret").write_text("s")
        (data / "payload-secret").chmod(0o600)
        size = await asyncio.to_thread(backup, data, file)
        with pytest.raises(DataFolderLocked):
            await asyncio.to_thread(restore, file, data)
    assert size == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore(file, place / "new").files == 3
    assert stat.S_IMODE((place / "new" / "secrets.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "new" / "payload-secret").stat().st_mode) == 0o600
    async with LocalOrchestrator.open(place / "new", bundles) as orchestrator, watching(orchestrator) as watch:
        assert orchestrator.status(function.id).function == function
        assert await orchestrator.secrets(DEFAULT_NAMESPACE) == ["key"]
        await watch.until(watch.running)
        assert (await get(watch.running()[0], "/x"))[0] == 200


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "copied"])
async def test_a_platform_on_a_copy_leaves_the_one_on_the_original_alone(place: Path, bundles: Bundles, restored: bool) -> None:
    data, copy = place / "data", place / "copy"
    async with LocalOrchestrator.open(data, bundles) as original, watching(original) as watch:
        await original.apply(spec())
        await watch.until(watch.running)
        await asyncio.to_thread(backup, data, place / "backup.tar")
        if restored:
            await asyncio.to_thread(restore, place / "backup.tar", copy)
        else:
            await asyncio.to_thread(shutil.copytree, data, copy)
        async with LocalOrchestrator.open(copy, bundles) as other, watching(other) as others:
            await others.until(others.running)
            assert (await get(others.running()[0], "/x"))[0] == 200
        (replica,) = watch.running()
        assert (await get(replica, "/x"))[0] == 200


async def test_dependency_layers_fit_the_new_place(place: Path, bundles: Bundles) -> None:
    data = place / "data"
    async with LocalOrchestrator.open(data, bundles):
        venv_layer(data, "kept", Path(sys.executable).resolve())
        venv_layer(data, "moved", Path("/nowhere/bin/python3"))
        venv_layer(data, "other", Path("/nowhere/bin/python2"), "python2.7")
    backup(data, place / "backup.tar")
    restored = restore(place / "backup.tar", place / "new")
    new = place / "new" / "layers"
    assert (new / "kept/bin/tool").read_text().startswith(f"#!{new}/kept/bin/python\n")
    assert stat.S_IMODE((new / "kept/bin/tool").stat().st_mode) == 0o755
    assert (new / "kept/bin/python").readlink() == Path(sys.executable).resolve()
    assert (new / "moved/bin/python").exists()
    assert "nowhere" not in (new / "moved/pyvenv.cfg").read_text()
    assert (new / "kept/lib64").readlink() == Path("lib")
    (warning,) = restored.warnings
    assert warning.startswith("layer other was made with a Python that is not here")


async def test_a_folder_that_holds_something_is_not_overwritten(place: Path, bundles: Bundles) -> None:
    async with LocalOrchestrator.open(place / "data", bundles):
        pass
    backup(place / "data", place / "backup.tar")
    (place / "mine").mkdir()
    (place / "mine" / "file").touch()
    with pytest.raises(StorageError, match="is not empty"):
        restore(place / "backup.tar", place / "mine")
    (place / "empty").mkdir()
    restore(place / "backup.tar", place / "empty")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "layers/../../outside", "lock", "layers/link/file"])
def test_a_forged_backup_writes_nothing_outside(place: Path, name: str) -> None:
    def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    with tarfile.open(place / "forged.tar", "w") as tar:
        add(tar, ABOUT, json.dumps({"format": FORMAT, "dataDir": "/x"}).encode())
        folder, link = tarfile.TarInfo("layers"), tarfile.TarInfo("layers/link")
        folder.type, folder.mode, link.type, link.linkname = tarfile.DIRTYPE, 0o755, tarfile.SYMTYPE, str(place)
        tar.addfile(folder)
        tar.addfile(link)
        add(tar, name, b"x")
    with pytest.raises(StorageError, match="cannot be restored: it holds"):
        restore(place / "forged.tar", place / "data")
    assert [path.name for path in place.iterdir()] == ["forged.tar"]


def test_what_is_no_data_folder_or_no_backup_is_said(place: Path) -> None:
    with pytest.raises(StorageError, match=r"is no data folder: it holds no state\.db"):
        backup(place, place / "backup.tar")
    (place / "text").write_text("hello")
    for content in (b"hello", b"", b"\0" * 5000):
        (place / "text").write_bytes(content)
        with pytest.raises(StorageError, match=r"cannot be restored: it is no (tar file|backup of this platform)$") as refused:
            restore(place / "text", place / "data")
        assert "\n" not in str(refused.value)
    assert not (place / "data").exists()


async def whole(place: Path, bundles: Bundles) -> Path:
    """Return a backup with a few files in folders."""
    async with LocalOrchestrator.open(place / "source", bundles) as orchestrator:
        await orchestrator.apply(spec())
        layer = venv_layer(place / "source", "kept", Path(sys.executable).resolve())
        (layer / "data").write_bytes(bytes(range(256)) * 20)
        (layer / "same").hardlink_to(layer / "data")
    backup(place / "source", place / "backup.tar")
    return place / "backup.tar"


async def test_a_backup_that_was_cut_anywhere_makes_no_data_folder(place: Path, bundles: Bundles) -> None:
    file = await whole(place, bundles)
    content = file.read_bytes()
    with tarfile.open(file) as tar:
        last = tar.getmember(CONTENTS)
        boundaries = [member.offset for member in tar.getmembers()]
        ends = [last.offset_data, last.offset_data + last.size - 1]
    cut = place / "cut.tar"
    for size in {*boundaries, *(offset + 100 for offset in boundaries), *(offset + 700 for offset in boundaries), *ends}:
        if size >= last.offset_data + last.size:
            continue
        cut.write_bytes(content[:size])
        with pytest.raises(StorageError, match=r"cannot be restored: (the file is not whole|it is no tar file)") as refused:
            restore(cut, place / "new")
        assert "\n" not in str(refused.value)
        assert not (place / "new").exists()
    assert restore(file, place / "new").files > 5
    assert (place / "new/layers/kept/same").read_bytes() == bytes(range(256)) * 20


async def test_a_compressed_backup_is_restored_and_a_cut_one_refused(place: Path, bundles: Bundles) -> None:
    file = await whole(place, bundles)
    compressed = gzip.compress(file.read_bytes())
    (place / "b.tar.gz").write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(StorageError, match=r"cannot be restored: the file is not whole$"):
        restore(place / "b.tar.gz", place / "new")
    (place / "b.tar.gz").write_bytes(compressed)
    restore(place / "b.tar.gz", place / "new")


async def test_a_damaged_file_in_a_backup_is_named(place: Path, bundles: Bundles) -> None:
    file = await whole(place, bundles)
    content = bytearray(file.read_bytes())
    with tarfile.open(file) as tar:
        content[tar.getmember("layers/kept/data").offset_data + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(StorageError, match="the file is not whole: layers/kept/data is damaged or missing"):
        restore(file, place / "new")
    assert not (place / "new").exists()
