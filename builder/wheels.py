"""Wheels as what they hold: the files of a `site-packages`, scripts, and what their metadata say.

A wheel is a zip archive (PEP 427); installing one for another platform is putting its files where they belong, which needs
no interpreter of that platform. Names that leave their folder are refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LARGEST_FILE_BYTES = 1 << 30
MOST_FILES = 100_000

_SCRIPT = """#!{python}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({attribute}())
"""


class InvalidWheel(ValueError):
    """A wheel that cannot be unpacked; the message names it and says why."""


@dataclass(frozen=True)
class Distribution:
    """What a wheel's METADATA says: name and version as written, licence and home page where told."""

    name: str
    version: str
    license: str = ""
    home_page: str = ""
    summary: str = ""


@dataclass(frozen=True)
class WheelFile:
    """A file below the prefix: `lib/pythonX.Y/site-packages/…` or `bin/…`. `read` gives its content."""

    path: str
    read: Callable[[], bytes]
    executable: bool = False


def unpacked_bytes(path: Path) -> int:
    """Return what the files in the wheel take when they are unpacked; 0 for one that cannot be read, which pip names."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(info.file_size for info in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0


class Wheel:
    """An opened wheel. Use `open_wheel`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        parts = path.name.split("-")
        if len(parts) < 5 or not path.name.endswith(".whl"):
            raise InvalidWheel(f"{path.name} is not named as a wheel is")
        self._infos = [info for info in archive.infolist() if not info.is_dir()]
        if len(self._infos) > MOST_FILES:
            raise InvalidWheel(f"{path.name} has more than {MOST_FILES} files")
        self._stem = f"{parts[0]}-{parts[1]}"
        folder = next((i.filename.split("/")[0] for i in self._infos if i.filename.endswith(".dist-info/METADATA")), "")
        if not folder.endswith(".dist-info"):
            raise InvalidWheel(f"{path.name} has no .dist-info/METADATA")
        self._info = folder

    def distribution(self) -> Distribution:
        """Return what the wheel says of itself."""
        import email.parser  # 10 ms, here and below, which a rebuild of the same packages need not pay
        import email.policy

        text = self._archive.read(f"{self._info}/METADATA").decode(errors="replace")
        said = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)
        pages = dict(entry.partition(",")[::2] for entry in said.get_all("Project-URL", []))
        lowered = {label.strip().lower(): url.strip() for label, url in pages.items()}
        home = str(said.get("Home-page") or "") or next(
            (lowered[k] for k in ("homepage", "source", "repository") if k in lowered), ""
        )
        licence = str(said.get("License-Expression") or said.get("License") or "").strip()
        return Distribution(
            name=str(said.get("Name") or self._stem.partition("-")[0]),
            version=str(said.get("Version") or self._stem.partition("-")[2]),
            license=licence if "\n" not in licence and len(licence) <= 100 else "",
            home_page=home if home != "UNKNOWN" else "",
            summary=str(said.get("Summary") or "").splitlines()[0][:200] if said.get("Summary") else "",
        )

    def files(self, python: str, minor: str) -> Iterator[WheelFile]:
        """Yield the wheel's files, with scripts that start the interpreter at `python`, of version `minor` (`X.Y`).

        Raises InvalidWheel.
        """
        packages = f"lib/python{minor}/site-packages"
        data = self._info.removesuffix(".dist-info") + ".data"
        for info in self._infos:
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename or "\0" in info.filename:
                raise InvalidWheel(f"{self._path.name} has a file {info.filename[:100]!r} that leaves its folder")
            if info.file_size > LARGEST_FILE_BYTES:
                raise InvalidWheel(f"{self._path.name}: {info.filename[:100]!r} has {info.file_size} bytes")
            mode = info.external_attr >> 16
            executable = bool(mode & 0o111) and (mode & 0o170000) in (0, 0o100000)
            if (mode & 0o170000) not in (0, 0o100000):
                raise InvalidWheel(f"{self._path.name}: {info.filename[:100]!r} is not an ordinary file")
            if path.parts[0] != data:
                yield WheelFile(f"{packages}/{path}", self._reader(info), executable)
                continue
            kind, rest = path.parts[1], "/".join(path.parts[2:])
            if kind in ("purelib", "platlib"):
                yield WheelFile(f"{packages}/{rest}", self._reader(info), executable)
            elif kind == "scripts":
                yield WheelFile(f"bin/{rest}", self._script_reader(info, python), executable=True)
            elif kind == "data":
                yield WheelFile(rest, self._reader(info), executable)
            elif kind == "headers":
                yield WheelFile(f"include/site/python{minor}/{self._stem.partition('-')[0]}/{rest}", self._reader(info))
            else:
                raise InvalidWheel(f"{self._path.name}: {info.filename[:100]!r} is of no kind that wheels have")
        yield from self._entry_points(python)

    def _reader(self, info: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                return self._archive.read(info)
            except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
                raise InvalidWheel(f"{self._path.name}: {info.filename[:100]!r} cannot be read: {error}") from None

        return read

    def _script_reader(self, info: zipfile.ZipInfo, python: str) -> Callable[[], bytes]:
        def read() -> bytes:
            content = self._archive.read(info)
            return f"#!{python}".encode() + content[len(b"#!python") :] if content.startswith(b"#!python") else content

        return read

    def _entry_points(self, python: str) -> Iterator[WheelFile]:
        import configparser

        try:
            text = self._archive.read(f"{self._info}/entry_points.txt").decode()
        except (KeyError, UnicodeDecodeError):
            return
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise InvalidWheel(f"{self._path.name}: entry_points.txt: {str(error).splitlines()[0]}") from None
        for name, target in parser.items("console_scripts") if parser.has_section("console_scripts") else ():
            module, colon, attribute = target.partition("[")[0].strip().partition(":")
            names = [*module.split("."), *attribute.split(".")]
            if "/" in name or name in ("", ".", "..") or not colon or not all(part.isidentifier() for part in names):
                raise InvalidWheel(f"{self._path.name}: entry_points.txt: {name[:50]} = {target[:100]} cannot be a script")
            script = _SCRIPT.format(python=python, module=module, first=attribute.split(".")[0], attribute=attribute)
            yield WheelFile(f"bin/{name}", script.encode, executable=True)


@contextmanager
def open_wheel(path: Path) -> Iterator[Wheel]:
    """Open the wheel at `path`; its files can be read until the context ends. Raises InvalidWheel."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InvalidWheel(f"{path.name} cannot be read: {error}") from None
    with archive:
        yield Wheel(path, archive)
