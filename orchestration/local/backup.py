"""Backup of a data folder into one tar file, also while a platform runs, and restore into a new folder.

The databases are copied by SQLite's own backup, first the state, then the secrets, then the bundles: what the state refers
to can only be newer than it. Sockets, logs and folders of replicas are left out. The last member lists all others with their
digests: a file that was cut short or damaged is refused, and no data folder comes of it.

A dependency layer is a virtual environment, which knows where it lies: its scripts name their interpreter by path, its
links and `pyvenv.cfg` the Python it was made with. Restored elsewhere, the scripts are rewritten; where that Python is not
found, the layer is linked to this one if it has the same X.Y, and else is said to need a new build.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import lzma
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from orchestration.interpreter import base_interpreter
from orchestration.local.data_folder import holder
from orchestration.local.failures import DataFolderLocked, StorageError

FORMAT = 2
DATABASES = ("state.db", "secrets.db")
FILES = ("basic-auth-user", "basic-auth-password", "payload-secret", "callback-secret")
FOLDERS = ("images", "bundles", "layers", "locks", "wheels")
ABOUT = "pinnace-backup.json"
CONTENTS = "pinnace-contents.json"
COPIED_BYTES = 1 << 20


class Restored(msgspec.Struct, frozen=True):
    """What a restore did: the number of files, and one line for each layer that needs attention."""

    files: int
    warnings: tuple[str, ...] = ()


def backup(data_dir: Path, file: Path) -> int:
    """Write the data folder to the tar file `file` (0600; replaced when it exists); return its size in bytes.

    Raises StorageError.
    """
    if not (data_dir / DATABASES[0]).exists():
        raise StorageError(f"{data_dir} is no data folder: it holds no {DATABASES[0]}")
    try:
        with tempfile.NamedTemporaryFile(dir=file.absolute().parent, prefix=f".{file.name}.", delete=False) as partial:
            try:
                with tarfile.open(fileobj=partial, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    _write(data_dir, tar)
                partial.flush()
                os.fsync(partial.fileno())
                Path(partial.name).replace(file)
            except BaseException:
                Path(partial.name).unlink(missing_ok=True)
                raise
        return file.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the backup {file} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def restore(file: Path, data_dir: Path) -> Restored:
    """Make the data folder `data_dir`, which must be empty or absent, from a backup.

    Raises DataFolderLocked, StorageError; then nothing is left behind.
    """
    data_dir = data_dir.absolute()
    if by := holder(data_dir):
        raise DataFolderLocked(f"the data folder {data_dir} is in use by process {by}: stop it first")
    if data_dir.exists() and any(data_dir.iterdir()):
        raise StorageError(f"{data_dir} is not empty: restore into a new folder")
    incomplete = data_dir.parent / f".{data_dir.name}.restoring"
    shutil.rmtree(incomplete, ignore_errors=True)
    try:
        incomplete.mkdir(parents=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        with _opened(file) as tar:
            files, about = _read(tar, incomplete)
        _forget_instance(incomplete / DATABASES[0])
        warnings = _settle_layers(incomplete / "layers", about, data_dir)
        os.sync()
        if data_dir.exists():
            data_dir.rmdir()
        incomplete.rename(data_dir)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError):
        raise StorageError(f"the backup {file} cannot be restored: the file is not whole") from None
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        raise StorageError(f"the backup {file} cannot be restored: {getattr(error, 'strerror', None) or error}") from None
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
    return Restored(files, tuple(warnings))


class _Hashing:
    """A file's content as it is read, and the digest of what was."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        self._digest.update(data)
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def _forget_instance(state: Path) -> None:
    """Let the folder be named anew at its first start: the one that was saved may run on this machine."""
    with contextlib.closing(sqlite3.connect(state, isolation_level=None)) as connection:
        connection.execute("DELETE FROM facts WHERE name IN ('instance', 'instance_of')")


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file)
    except tarfile.ReadError:  # its message has a line for each compression that was tried
        raise ValueError("it is no tar file") from None


def _write(data_dir: Path, tar: tarfile.TarFile) -> None:
    _add_json(tar, ABOUT, {"format": FORMAT, "dataDir": str(data_dir.absolute())})
    contents: dict[str, str] = {}
    for name in DATABASES:
        with tempfile.TemporaryDirectory(prefix="pinnace-backup-") as folder:
            copy = Path(folder) / name
            _copy_database(data_dir / name, copy)
            _add(tar, copy, name, contents)
    for name in (*FILES, *FOLDERS):
        if (data_dir / name).exists():
            for path in _tree(data_dir / name):
                with contextlib.suppress(FileNotFoundError):  # collected meanwhile: nothing uses it
                    _add(tar, path, str(path.relative_to(data_dir)), contents)
    _add_json(tar, CONTENTS, contents)


def _add_json(tar: tarfile.TarFile, name: str, content: object) -> None:
    encoded = json.dumps(content).encode()
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(encoded), 0o600
    tar.addfile(info, io.BytesIO(encoded))


def _add(tar: tarfile.TarFile, path: Path, name: str, contents: dict[str, str]) -> None:
    """Add a file, folder or link, without who owned it, and note its digest in `contents`; leave out what is none of them."""
    info = tar.gettarinfo(path, name)
    if info is None or not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        return
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.isreg():
        with path.open("rb") as file:
            content = _Hashing(file)
            tar.addfile(info, content)
            contents[name] = content.digest
    else:
        tar.addfile(info)
        contents[name] = _kind(info)


def _kind(info: tarfile.TarInfo) -> str:
    """What the list of contents says of a member without content of its own."""
    return "folder" if info.isdir() else f"link:{info.linkname}"


def _copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        target.chmod(0o600)
        reading.backup(writing)


def _tree(path: Path) -> Iterator[Path]:
    """Yield a path and all below it, folders before what they hold; links are not followed."""
    yield path
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            for below in sorted(path.iterdir()):
                yield from _tree(below)


def _read(tar: tarfile.TarFile, target: Path) -> tuple[int, Path]:
    """Unpack into `target`; return the number of files, and the data folder that the backup was made of."""
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.name == ABOUT else None
    if content is None:
        raise ValueError("it is no backup of this platform")
    about = json.loads(content.read())
    if about["format"] != FORMAT:
        raise ValueError(f"it has format {about['format']}, and this version of the platform reads {FORMAT}")
    found: dict[str, str] = {}
    promised: dict[str, str] | None = None
    for member in tar:
        if member.name == CONTENTS and (content := tar.extractfile(member)) is not None:
            promised = json.loads(content.read())
        elif member.name != ABOUT:
            found[member.name] = _unpack(tar, member, target)
    if promised is None:
        raise ValueError("the file is not whole: its end, the list of contents, is missing")
    if wrong := sorted(name for name in found.keys() | promised.keys() if found.get(name) != promised.get(name)):
        raise ValueError(f"the file is not whole: {wrong[0]} is damaged or missing")
    if not all((target / name).exists() for name in DATABASES):
        raise ValueError("it holds no databases")
    return sum(kind != "folder" for kind in found.values()), Path(about["dataDir"])


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    """Write one member where its name says, never outside of `target` and never through a link; return its digest."""
    parts = PurePosixPath(member.name).parts
    if not parts or parts[0] not in (*DATABASES, *FILES, *FOLDERS) or ".." in parts:
        raise ValueError(f"it holds {member.name!r}, which does not belong into a data folder")
    path = target.joinpath(*parts)
    if path.parent.resolve() != path.parent:
        path = path.parent.resolve() / path.name
        if not path.is_relative_to(target.resolve()):
            raise ValueError(f"it holds {member.name!r}, which leads out of the data folder")
    digest = _kind(member)
    if member.isdir():
        path.mkdir(mode=member.mode & 0o755)
    elif member.issym():
        path.symlink_to(member.linkname)
        return digest
    else:
        content = tar.extractfile(member)
        if content is None:
            raise ValueError(f"it holds {member.name!r}, which is no file")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, member.mode & 0o755)
        with os.fdopen(fd, "wb") as file:
            reading = _Hashing(content)
            while data := reading.read(COPIED_BYTES):
                file.write(data)
        if member.isreg():
            digest = reading.digest
        path.chmod(member.mode & 0o755)
    os.utime(path, (member.mtime, member.mtime))
    return digest


def _settle_layers(layers: Path, before: Path, after: Path) -> list[str]:
    """Make virtual environments fit the place they are in now; return a line for each that cannot run here."""
    warnings = []
    for config in sorted(layers.glob("*/pyvenv.cfg")):
        layer = config.parent
        old, new = f"{before}/layers/".encode(), f"{after}/layers/".encode()
        for script in (layer / "bin").iterdir():
            if script.is_file() and not script.is_symlink():
                content = script.read_bytes()
                if old in content and b"\0" not in content:
                    mode = script.stat().st_mode
                    script.write_bytes(content.replace(old, new))
                    script.chmod(mode)
        if not (layer / "bin" / "python").exists() and not _link_here(layer, config):
            warnings.append(f"layer {layer.name} was made with a Python that is not here: deploy its functions again")
    return warnings


def _link_here(layer: Path, config: Path) -> bool:
    """Link a virtual environment to the platform's own Python, if that has the same X.Y."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (layer / "lib" / version).is_dir():
        return False
    interpreter = base_interpreter()
    for link in (layer / "bin").iterdir():
        if link.is_symlink() and link.name.startswith("python"):
            link.unlink()
            link.symlink_to(interpreter)
    lines = config.read_text().splitlines()
    kept = [f"home = {interpreter.parent}" if line.partition("=")[0].strip() == "home" else line for line in lines]
    config.write_text("\n".join(kept) + "\n")
    return True
