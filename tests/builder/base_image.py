"""A base image with a Python, made from this machine's own files: Debian's interpreter, its library, what they link to."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.oci.archive import Entry, write_layer
from builder.oci.documents import CONFIG, MANIFEST, Descriptor, History, ImageConfig, Manifest, RootFs, RunConfig, encode
from builder.oci.layout import Layout
from builder.platforms import host_platform

NAME = "python-base"
_LEFT_OUT = {
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "turtledemo",
    "tkinter",
    "distutils",
}


@functools.cache
def debian_python() -> Path:
    """Return the newest `/usr/bin/python3.N` of at least 3.11; skips the test where there is none."""
    found = [path for path in Path("/usr/bin").glob("python3.*") if re.fullmatch(r"python3\.1[1-9]", path.name)]
    usable = [path for path in found if Path(f"/usr/lib/{path.name}/os.py").exists()]
    if not usable:
        pytest.skip("no Debian Python of 3.11 or newer under /usr/bin to make a base image from (apt-get install python3)")
    return max(usable, key=lambda path: int(path.name.partition(".")[2]))


def make_base(root: Path) -> str:
    """Make the base image in a layout in the folder `root` and return its name for builds."""
    layout = Layout(root)
    layer = write_layer(layout, _entries())
    image = image_of(layout, [layer.blob], [layer.diff_id], RunConfig(env=("PATH=/usr/local/bin:/usr/bin:/bin",)))
    layout.tag(NAME, image)
    return f"oci:{root}:{NAME}"


def image_of(layout: Layout, layers: list[Descriptor], diff_ids: list[str], run: RunConfig) -> Descriptor:
    """Put an image for this machine together from layers in the layout."""
    config = ImageConfig(
        architecture=host_platform().architecture,
        os="linux",
        config=run,
        rootfs=RootFs(type="layers", diff_ids=tuple(diff_ids)),
        history=tuple(History(created_by="this machine's files") for _ in diff_ids),
    )
    stored = layout.add(encode(config), CONFIG)
    return layout.add(encode(Manifest(schema_version=2, media_type=MANIFEST, config=stored, layers=tuple(layers))), MANIFEST)


def _entries() -> Iterator[Entry]:
    python = debian_python()
    library = Path("/usr/lib") / python.name
    yield from (Entry(name) for name in ("tmp", "proc", "sys", "dev", "etc", "run", "usr/local/bin"))
    yield Entry("bin", target="usr/bin")
    yield Entry("lib", target="usr/lib")
    yield Entry("lib64", target="usr/lib64")
    yield Entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    yield Entry(f"usr/bin/{python.name}", python.read_bytes(), executable=True)
    programs = [python]
    for path in sorted(library.rglob("*")):
        relative = path.relative_to(library)
        if path.is_file() and not _LEFT_OUT.intersection(relative.parts):
            yield Entry(f"usr/lib/{python.name}/{relative}", path.read_bytes())
            if path.suffix == ".so":
                programs.append(path)
    for linked in [*libraries(programs), *_promised()]:
        yield Entry(merged(linked), linked.read_bytes(), executable=True)


def libraries(programs: list[Path]) -> list[Path]:
    """Return the libraries that the programs are linked to."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return sorted({Path(found) for found in re.findall(r"(/\S+) \(0x", said)})


def _promised() -> list[Path]:
    """What a wheel may count on (PEP 600) though no program here is linked to it, and what libc opens when a thread ends."""
    said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"lib(?:gcc_s|rt|dl|pthread|util)\.so\.\d \(libc6,x86-64.*\) => (/\S+)", said)
    found += re.findall(r"lib(?:gcc_s|rt|dl|pthread|util)\.so\.\d \(libc6,AArch64.*\) => (/\S+)", said)
    return [Path(path) for path in dict.fromkeys(found)]


def merged(path: Path) -> str:
    """Return the library's path with `/lib` in `/usr`, where it is on merged systems."""
    name = str(path).lstrip("/")
    return name if name.startswith("usr/") else f"usr/{name}"
