"""What is in a base image that matters for a function: which Python or Node.js, where, and which C library.

It is read from the layers themselves, as they will lie over each other: no label needs to be believed. Decompressing 50 MB
takes about a second, so what was found is kept beside the blobs, by the digest of the configuration.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from typing import IO

import msgspec

from builder.disk import FILE_MODE, make_folder, write_durably
from builder.oci.archive import opened
from builder.oci.documents import ImageConfig, InvalidImage, Manifest
from builder.oci.layout import Layout
from builder.platforms import Platform, Target

OLDEST_PYTHON = (3, 11)
_PYTHON = re.compile(r"(usr/local|usr|opt/[^/]+)/bin/python3\.(\d{1,2})")
_LIBPYTHON = re.compile(r"(?:usr/local|usr|opt/[^/]+)/lib/(?:[a-z0-9_-]+/)?libpython3\.\d{1,2}\.so\.1\.0")
_PYTHON_VERSION = re.compile(rb"\0(3\.\d{1,2}\.\d{1,2})\+?\0")
_NODE = re.compile(r"(?:usr/local|usr)/bin/node(?:js)?")
_LIBC = re.compile(r"(?:usr/)?lib(?:64)?/(?:[a-z0-9_-]+/)?(libc\.so\.6|ld-musl-[a-z0-9_]+\.so\.1|libc-2\.\d+\.so)")
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]*version (\d+)\.(\d+)")
_MUSL_VERSION = re.compile(rb"\0(1)\.(\d)\.\d{1,2}\0")
_LARGEST_LIBRARY_BYTES = 16 << 20
_LARGEST_PROGRAM_BYTES = 64 << 20
_MOST_ENTRIES = 500_000


class BaseContents(msgspec.Struct, frozen=True):
    """`python` and `node` are programs' paths in the image, None where there is none; versions are texts and numbers."""

    python: str | None
    python_version: str
    libc: str
    libc_version: tuple[int, int]
    node: str | None = None

    def target(self, platform: Platform, name: str) -> Target:
        """Return what wheels must fit. Raises InvalidImage for a base without a Python that handlers can run with."""
        if self.python is None:
            raise InvalidImage(f"the base image {name} has no Python: none of usr/bin, usr/local/bin has a python3.N")
        if tuple(map(int, self.python_version.split(".")[:2])) < OLDEST_PYTHON:
            raise InvalidImage(f"the base image {name} has Python {self.python_version}; functions need 3.11 or newer")
        if not self.libc:
            raise InvalidImage(f"the base image {name} has neither glibc nor musl, so that no wheels can be chosen for it")
        return Target(platform, self.python_version, self.libc, self.libc_version)


def contents_of(layout: Layout, manifest: Manifest, config: ImageConfig) -> BaseContents:
    """Return what is in the image, whose layers are in the layout. Raises InvalidImage."""
    kept = layout.root / "bases" / f"{manifest.config.digest.removeprefix('sha256:')}.json"
    make_folder(kept.parent, 0o700)
    try:
        return msgspec.json.decode(kept.read_bytes(), type=BaseContents)
    except (FileNotFoundError, msgspec.MsgspecError):
        pass
    found = _Found()
    for layer in manifest.layers:
        try:
            with layout.path(layer.digest).open("rb") as file:
                found.add_layer(opened(file, layer.media_type))
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InvalidImage(f"layer {layer.digest} of the base image cannot be read: {error}") from None
    contents = found.contents(_variable(config, "PYTHON_VERSION"))
    write_durably(kept, msgspec.json.encode(contents), FILE_MODE)
    return contents


class _Found:
    def __init__(self) -> None:
        self._pythons: set[str] = set()
        self._versions: set[str] = set()
        self._nodes: set[str] = set()
        self._libraries: dict[str, tuple[str, tuple[int, int]]] = {}

    def add_layer(self, archive: IO[bytes]) -> None:
        """Lay one more layer over what was found."""
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number > _MOST_ENTRIES:
                    raise InvalidImage(f"a layer of the base image has more than {_MOST_ENTRIES} entries")
                name = member.name.removeprefix("./").strip("/")
                folder, _, last = name.rpartition("/")
                if last.startswith(".wh."):
                    self._white_out(folder, last)
                elif _PYTHON.fullmatch(name) and not member.isdir():
                    self._pythons.add(name)
                    self._note_version(tar, member)
                elif _LIBPYTHON.fullmatch(name):
                    self._note_version(tar, member)
                elif _NODE.fullmatch(name) and not member.isdir():
                    self._nodes.add(name)
                elif _LIBC.fullmatch(name) and member.isreg() and member.size <= _LARGEST_LIBRARY_BYTES:
                    source = tar.extractfile(member)
                    if source is not None and (library := _library(name, source.read())):
                        self._libraries[name] = library

    def _note_version(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Look for the exact version in a program or library: markers such as `python_full_version < "3.11.3"` ask for it."""
        if member.isreg() and member.size <= _LARGEST_PROGRAM_BYTES and (source := tar.extractfile(member)) is not None:
            self._versions.update(found.decode() for found in _PYTHON_VERSION.findall(source.read()))

    def _white_out(self, folder: str, last: str) -> None:
        gone = f"{folder}/" if last == ".wh..wh..opq" else f"{folder}/{last.removeprefix('.wh.')}".lstrip("/")
        self._pythons = {name for name in self._pythons if not _below(name, gone)}
        self._nodes = {name for name in self._nodes if not _below(name, gone)}
        self._libraries = {name: what for name, what in self._libraries.items() if not _below(name, gone)}

    def contents(self, told_version: str) -> BaseContents:
        """Return what is there after all layers; `told_version` is what the image says of its Python, if it is that one's."""
        python = max(self._pythons, key=_preference, default=None)
        version = f"3.{python.rpartition('.')[2]}" if python else ""
        known = [full for full in (told_version, *sorted(self._versions)) if full.startswith(f"{version}.")]
        if version and known and re.fullmatch(r"3\.\d{1,2}\.\d{1,2}", known[0]):
            version = known[0]
        libc, libc_version = max(self._libraries.values(), default=("", (0, 0)))
        node = min(self._nodes, key=lambda name: (not name.startswith("usr/local/"), name), default=None)
        return BaseContents(f"/{python}" if python else None, version, libc, libc_version, f"/{node}" if node else None)


def _preference(path: str) -> tuple[bool, int]:
    """Docker's own Python images have theirs in /usr/local, perhaps beside Debian's."""
    return path.startswith("usr/local/"), int(path.rpartition(".")[2])


def _below(name: str, gone: str) -> bool:
    return name == gone or name.startswith(gone.rstrip("/") + "/")


def _library(name: str, content: bytes) -> tuple[str, tuple[int, int]] | None:
    if "musl" in name:
        match = _MUSL_VERSION.search(content)
        return "musl", (int(match[1]), int(match[2])) if match else (1, 1)
    match = _GLIBC_VERSION.search(content)
    return ("glibc", (int(match[1]), int(match[2]))) if match else None


def _variable(config: ImageConfig, name: str) -> str:
    for entry in (config.config.env if config.config else None) or ():
        if entry.startswith(f"{name}="):
            return entry.partition("=")[2]
    return ""
