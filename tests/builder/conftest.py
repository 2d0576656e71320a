"""What tests of the builder share: a store, functions to build, wheels made on the spot, and pip without a network."""

from __future__ import annotations

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.context import BuildConfig, write_context
from builder.store import BundleStore
from builder.templates import Templates
from tests.builder.base_image import make_base

HANDLER = "def handle(event, context):\n    return {'statusCode': 200, 'body': 'hello'}\n"

MakeTar = Callable[..., Path]
MakeFunction = Callable[..., Path]
MakeWheel = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    root = tmp_path / "data"
    root.mkdir()
    return BundleStore(root)


@pytest.fixture(scope="session")
def base_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a base image with a Python, made from this machine's files."""
    return make_base(tmp_path_factory.mktemp("base") / "oci")


@pytest.fixture
def make_function(tmp_path: Path) -> MakeFunction:
    """Make a function's folder from file names and texts."""

    def make(files: dict[str, str] | None = None, name: str = "hello") -> Path:
        folder = tmp_path / name
        for relative, text in (files or {"handler.py": HANDLER}).items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return make


@pytest.fixture
def context_of(tmp_path: Path) -> MakeTar:
    """Make the tar that our client would send for a function's folder."""

    def make(function: Path, image: str = "hello:latest", *, no_cache: bool = False, language: str = "python3-http") -> Path:
        path = tmp_path / f"{function.name}.tar"
        with path.open("wb") as file:
            write_context(file, function, Templates().find(language), BuildConfig(image=image, no_cache=no_cache))
        return path

    return make


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWheel:
    """Make wheels in a folder that is the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def make(name: str, version: str = "1.0", requires: tuple[str, ...] = (), tag: str = "py3-none-any") -> Path:
        path = folder / f"{name}-{version}-{tag}.whl"
        info = f"{name}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        files = {
            f"{name}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": "\n".join((*metadata, "")),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        record = [
            f"{file},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
            for file, text in files.items()
        ]
        with zipfile.ZipFile(path, "w") as archive:
            for file, text in files.items():
                archive.writestr(file, text)
            archive.writestr(f"{info}/RECORD", "\n".join((*record, f"{info}/RECORD,,", "")))
        return path

    return make
