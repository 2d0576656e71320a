"""The layers of a function's image, entry by entry: the same trees that a bundle's folders hold, at an image's places.

/opt/pinnace/runtime        what serves calls
/opt/pinnace/dependencies   a virtual environment over the base image's Python (PEP 405), or node_modules
/home/app                   the code: the working folder, with function/ in it
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from builder.compiling import BrokenCode, compiled, compiled_name
from builder.layers import COMPILED
from builder.oci.archive import Entry
from builder.wheels import WheelFile, open_wheel

RUNTIME_PLACE = "opt/pinnace/runtime"
DEPENDENCIES_PLACE = "opt/pinnace/dependencies"
CODE_PLACE = "home/app"


def tree(
    folder: Path, place: str, *, compiles: bool, must_compile: Callable[[str], bool], log: Callable[[str], None]
) -> Iterator[Entry]:
    """What lies in `folder`, at `place`; with `compiles`, Python files compiled too.

    Raises BrokenCode for a file that does not compile and whose relative path `must_compile` accepts.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != COMPILED]
        for name in (*folders, *files):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield Entry(f"{place}/{relative}", target=os.fspath(path.readlink()))
            elif path.is_dir():
                yield Entry(f"{place}/{relative}")
            else:
                content = path.read_bytes()
                yield Entry(f"{place}/{relative}", content, executable=bool(path.stat().st_mode & 0o100))
                if name.endswith(".py") and compiles:
                    must = must_compile(relative)
                    yield from _compiled(f"{place}/{relative}", relative, content, log, must=must)


def venv(wheels: Sequence[Path], python: str, minor: str, stack: contextlib.ExitStack, *, compiles: bool) -> Iterator[Entry]:
    """A virtual environment with these wheels over the interpreter at `python`, of version `minor` (`X.Y`).

    A file that two wheels have is the later one's. The wheels are read until `stack` is left. Raises InvalidWheel.
    """
    files: dict[str, WheelFile] = {}
    for path in wheels:
        wheel = stack.enter_context(open_wheel(path))
        files.update((file.path, file) for file in wheel.files(f"/{DEPENDENCIES_PLACE}/bin/python", minor))
    for name in ("python", "python3", f"python{minor}"):
        yield Entry(f"{DEPENDENCIES_PLACE}/bin/{name}", target=python)
        files.pop(f"bin/{name}", None)
    yield Entry(f"{DEPENDENCIES_PLACE}/lib64", target="lib")
    yield Entry(f"{DEPENDENCIES_PLACE}/lib/python{minor}/site-packages")
    settings = f"home = {python.rpartition('/')[0]}\ninclude-system-site-packages = false\nversion = {minor}\n"
    yield Entry(f"{DEPENDENCIES_PLACE}/pyvenv.cfg", settings.encode())
    files.pop("pyvenv.cfg", None)
    for name, file in files.items():
        yield Entry(f"{DEPENDENCIES_PLACE}/{name}", file.read, executable=file.executable)
        if name.endswith(".py") and name.startswith("lib/") and compiles:
            shown = name.split("/site-packages/", 1)[-1]
            yield from _compiled(f"{DEPENDENCIES_PLACE}/{name}", shown, file.read(), _silent, must=False)


def native_file(folder: Path) -> str | None:
    """Return the relative path of a Node.js addon (a binary for one kind of machine) below `folder`, or None."""
    found = min(folder.rglob("*.node"), default=None)
    return found.relative_to(folder).as_posix() if found else None


def _compiled(path: str, shown: str, source: bytes, log: Callable[[str], None], *, must: bool) -> Iterator[Entry]:
    folder, _, name = path.rpartition("/")
    try:
        yield Entry(f"{folder}/{COMPILED}/{compiled_name(name)}", compiled(source, shown, log if must else _silent))
    except BrokenCode:
        if must:
            raise


def _silent(line: str) -> None:
    """Packages carry files for other Python versions, which are never imported: nobody needs to hear of them."""
