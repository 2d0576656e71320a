"""A layer's archive from a stranger becomes a folder, or an error that says why not.

What our layers hold is taken: files, folders, and links that stay inside. Everything else is refused: names that leave,
hard links, devices, special mode bits, white-outs, archives that unpack to more than they should. Owners and times are not
taken over; modes become 0755 or 0644.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from builder.disk import FILE_MODE, FOLDER_MODE, PROGRAM_MODE
from builder.oci.archive import opened
from builder.oci.documents import Descriptor, InvalidImage
from builder.oci.layout import Layout

_PIECE_BYTES = 1 << 20


class UnpackLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a layer may unpack to."""

    total_bytes: int = 2 << 30
    file_bytes: int = 512 << 20
    files: int = 100_000
    path_characters: int = 1024


def unpack_layer(
    layout: Layout,
    layer: Descriptor,
    place: str,
    destination: Path,
    *,
    leaves_out: Callable[[PurePosixPath], bool] = lambda _: False,
    limits: UnpackLimits | None = None,
) -> None:
    """Unpack what the layer holds below `place` (no leading slash) into the folder `destination`, which is made.

    `leaves_out` is asked about each path from `place`. The folders above `place` may be in the layer, other things not.
    Raises InvalidImage.
    """
    destination.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    try:
        with (
            layout.path(layer.digest).open("rb") as file,
            tarfile.open(fileobj=opened(file, layer.media_type), mode="r|") as tar,
        ):
            _Unpacking(PurePosixPath(place), destination, leaves_out, limits or UnpackLimits()).run(tar)
    except FileNotFoundError as error:
        raise InvalidImage(f"layer {layer.digest} is not here: {error}") from None
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError) as error:
        raise InvalidImage(f"layer {layer.digest} cannot be read: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise InvalidImage(f"layer {layer.digest} cannot be read: {error}") from None  # gzip's own


class _Unpacking:
    def __init__(
        self, place: PurePosixPath, destination: Path, leaves_out: Callable[[PurePosixPath], bool], limits: UnpackLimits
    ) -> None:
        self._place = place
        self._destination = destination
        self._leaves_out = leaves_out
        self._limits = limits
        self._links: list[tuple[Path, PurePosixPath]] = []

    def run(self, tar: tarfile.TarFile) -> None:
        limits, total = self._limits, 0
        for number, member in enumerate(tar, start=1):
            total += member.size
            if number > limits.files:
                raise InvalidImage(f"a layer has more than {limits.files} files")
            if member.size > limits.file_bytes:
                raise InvalidImage(f"{member.name[:100]!r} is {member.size} bytes; a file may have at most {limits.file_bytes}")
            if total > limits.total_bytes:
                raise InvalidImage(f"a layer unpacks to more than {limits.total_bytes} bytes")
            relative = self._relative(member)
            if relative is not None and not self._leaves_out(relative):
                self._take(tar, member, relative)
        self._make_links()

    def _relative(self, member: tarfile.TarInfo) -> PurePosixPath | None:
        """The member's path from `place`; None for `place` itself and the folders above it."""
        name = member.name.removeprefix("./")
        path = PurePosixPath(name)
        if len(name) > self._limits.path_characters:
            raise InvalidImage(f"the path {name[:60]!r}… has more than {self._limits.path_characters} characters")
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise InvalidImage(f"the path {name[:100]!r} leaves its layer")
        if path.is_relative_to(self._place) and path != self._place:
            return path.relative_to(self._place)
        if member.isdir() and self._place.is_relative_to(path):
            return None
        raise InvalidImage(f"{name[:100]!r} is not below {self._place}, where this layer belongs")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, relative: PurePosixPath) -> None:
        path = self._destination / relative
        shown = f"{member.name[:100]!r}"
        if member.mode & 0o7000:
            raise InvalidImage(f"{shown} has a setuid, setgid or sticky bit")
        if relative.name.startswith(".wh."):
            raise InvalidImage(f"{shown} takes something away from a lower layer, which no layer of a function does")
        try:
            if member.isdir():
                path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            elif member.issym():
                path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                self._links.append((path, PurePosixPath(member.linkname)))
            elif member.isreg():
                path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                _copy(tar.extractfile(member), path, PROGRAM_MODE if member.mode & 0o100 else FILE_MODE)
            else:
                kind = "a hard link" if member.islnk() else "a device or a pipe"
                raise InvalidImage(f"{shown} is {kind}; a function's layer has files, folders and symbolic links")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise InvalidImage(f"{shown} is in the layer twice, or below something that is no folder") from None

    def _make_links(self) -> None:
        """Make the links last, so that no file is written through one; then see that each stays inside, through others too."""
        inside = self._destination.resolve()
        for path, target in self._links:
            try:
                path.symlink_to(target)
            except (OSError, ValueError) as error:
                raise InvalidImage(f"{path.name[:100]!r} cannot be made a link: {error}") from None
        for path, target in self._links:
            try:
                resolved = path.resolve()
            except (RuntimeError, OSError):
                raise InvalidImage(f"{path.name[:100]!r} is a link that leads round in a circle") from None
            if target.is_absolute() or not resolved.is_relative_to(inside):
                raise InvalidImage(f"{path.name[:100]!r} is a link to {os.fspath(target)[:100]!r}, outside of its layer")


def _copy(source: IO[bytes] | None, path: Path, mode: int) -> None:
    assert source is not None  # it is a regular file
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as out:
        while piece := source.read(_PIECE_BYTES):
            out.write(piece)
