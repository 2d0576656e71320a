"""The receiving side of a build context: a tar from a stranger becomes a folder, or an error that says why not.

Nothing is trusted: names that leave the folder, links that do, hard links, devices, special mode bits, archives that
unpack to more than they should. Owners and times in the tar are not taken over; modes become 0755 or 0644.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from builder.context import CONFIG_NAME, CONTEXT_FOLDER, SECRETS_NAME, BuildConfig, InvalidContext
from builder.disk import FILE_MODE, FOLDER_MODE, PROGRAM_MODE

_CHUNK_BYTES = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a context may hold; `archive_bytes` bounds the tar itself. A path counts with its slashes."""

    archive_bytes: int = 576 * 1024**2
    total_bytes: int = 512 * 1024**2
    file_bytes: int = 256 * 1024**2
    files: int = 20_000
    path_characters: int = 1024
    config_bytes: int = 1024**2


class _Wire(msgspec.Struct, rename="camel"):
    """The config as clients send it: maps and lists may be null."""

    image: str = ""
    build_args: dict[str, str] | None = None
    platforms: list[str] | None = None
    skip_push: bool = False
    no_cache: bool = False


def extract(file: IO[bytes], destination: Path, limits: Limits | None = None) -> BuildConfig:
    """Unpack a build context into the folder `destination` and return its configuration.

    Afterwards `destination` holds what lay under `context/`. Sealed build secrets are left out (`read_config`). Raises
    InvalidContext.
    """
    limits = limits or Limits()
    if file.seek(0, os.SEEK_END) > limits.archive_bytes:
        raise InvalidContext(f"the build context is larger than {limits.archive_bytes} bytes")
    file.seek(0)
    config: BuildConfig | None = None
    links: list[tuple[Path, PurePosixPath]] = []
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in _counted(tar, limits):
                name = PurePosixPath(member.name)
                if str(name) == SECRETS_NAME or (not name.parts and member.isdir()):
                    continue
                if str(name) == CONFIG_NAME:
                    config = _read_config(tar, member, limits)
                elif name.parts[:1] == (CONTEXT_FOLDER,):
                    _unpack(tar, member, destination, _inside(member.name, limits), links)
                else:
                    raise InvalidContext(f"{member.name!r} in the build context is not under {CONTEXT_FOLDER}/")
    except tarfile.TarError as error:
        raise InvalidContext(f"the build context is not a tar archive: {error}") from None
    if config is None:
        raise InvalidContext(f"the build context has no {CONFIG_NAME}, which names the image")
    _make_links(links, destination)  # last, so that no file is ever written through one
    return config


def read_config(file: IO[bytes], limits: Limits | None = None) -> tuple[BuildConfig, bytes | None]:
    """Return the configuration of a build context and its sealed secrets, if it has any; nothing is unpacked.

    Raises InvalidContext.
    """
    limits = limits or Limits()
    config: BuildConfig | None = None
    sealed: bytes | None = None
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in _counted(tar, limits):
                name = str(PurePosixPath(member.name))
                if name == CONFIG_NAME:
                    config = _read_config(tar, member, limits)
                elif name == SECRETS_NAME:
                    sealed = _read_small(tar, member, limits)
    except tarfile.TarError as error:
        raise InvalidContext(f"the build context is not a tar archive: {error}") from None
    if config is None:
        raise InvalidContext(f"the build context has no {CONFIG_NAME}, which names the image")
    return config, sealed


def _counted(tar: tarfile.TarFile, limits: Limits) -> Iterator[tarfile.TarInfo]:
    total_bytes = 0
    for files, member in enumerate(tar, start=1):
        total_bytes += member.size
        if files > limits.files:
            raise InvalidContext(f"the build context has more than {limits.files} files")
        if member.size > limits.file_bytes:
            raise InvalidContext(f"{member.name!r} is {member.size} bytes; a file may have at most {limits.file_bytes}")
        if total_bytes > limits.total_bytes:
            raise InvalidContext(f"the build context unpacks to more than {limits.total_bytes} bytes")
        yield member


def _inside(name: str, limits: Limits) -> PurePosixPath:
    """Return the path below `context/`, checked to stay there."""
    path = PurePosixPath(name)
    if len(name) > limits.path_characters:
        raise InvalidContext(f"the path {name[:60]!r}… has more than {limits.path_characters} characters")
    if "\0" in name or ".." in path.parts or path.is_absolute():
        raise InvalidContext(f"the path {name!r} leaves the build context")
    return PurePosixPath(*path.parts[1:])


def _unpack(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    destination: Path,
    relative: PurePosixPath,
    links: list[tuple[Path, PurePosixPath]],
) -> None:
    path = destination / relative
    if member.mode & 0o7000:
        raise InvalidContext(f"{member.name!r} has a setuid, setgid or sticky bit")
    try:
        if member.isdir():
            path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        elif member.issym():
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            links.append((path, PurePosixPath(member.linkname)))
        elif member.isreg():
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _copy(tar, member, path)
        else:
            kind = "a hard link" if member.islnk() else "a device or a pipe"
            raise InvalidContext(f"{member.name!r} is {kind}; only files, folders and symbolic links can be built")
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise InvalidContext(f"{member.name!r} is in the build context twice, or below something that is no folder") from None
    except UnicodeEncodeError:
        raise InvalidContext(f"the path {member.name!r} cannot be a file name here") from None


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # it is a regular file
    mode = PROGRAM_MODE if member.mode & 0o100 else FILE_MODE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            out.write(chunk)


def _make_links(links: list[tuple[Path, PurePosixPath]], destination: Path) -> None:
    """Make the links, then see where they lead: one that stays inside by itself may lead outside through another."""
    for path, target in links:
        shown = os.fspath(path.relative_to(destination))
        try:
            path.symlink_to(target)
        except FileExistsError:
            raise InvalidContext(f"{shown!r} is in the build context twice") from None
        except (ValueError, OSError) as error:  # a NUL, a name that is too long
            raise InvalidContext(f"{shown!r} cannot be made a link: {error}") from None
    inside = destination.resolve()
    for path, target in links:
        shown = os.fspath(path.relative_to(destination))
        if _leads_in_a_circle(path):
            raise InvalidContext(f"{shown!r} is a link that leads round in a circle")
        if target.is_absolute() or not path.resolve().is_relative_to(inside):
            raise InvalidContext(f"{shown!r} is a link to {os.fspath(target)!r}, outside of the build context")


def _leads_in_a_circle(path: Path) -> bool:
    try:
        path.resolve()  # before Python 3.13 it is this that finds a circle
        path.stat()
    except RuntimeError:
        return True
    except OSError as error:  # a link to what is not there is no harm
        return error.errno == errno.ELOOP
    return False


def _read_config(tar: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> BuildConfig:
    try:
        wire = msgspec.json.decode(_read_small(tar, member, limits), type=_Wire)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidContext(f"{CONFIG_NAME} is not what it should be: {error}") from None
    if not wire.image:
        raise InvalidContext(f"{CONFIG_NAME} has no image name")
    return BuildConfig(
        image=wire.image,
        build_args=wire.build_args or {},
        platforms=tuple(name.strip() for text in wire.platforms or () for name in text.split(",") if name.strip()),
        skip_push=wire.skip_push,
        no_cache=wire.no_cache,
    )


def _read_small(tar: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> bytes:
    source = tar.extractfile(member) if member.isreg() else None
    if source is None or member.size > limits.config_bytes:
        raise InvalidContext(f"{member.name} must be a file of at most {limits.config_bytes} bytes")
    return source.read()
