from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestration.bundle import Bundle, Layer, LayerKind
from orchestration.command import MissingProgram, default_environment, fill, places


class Folders:
    def resolve(self, image: str) -> Bundle:
        raise NotImplementedError

    def folder(self, layer: Layer) -> Path:
        return Path("/layers") / layer.kind


def bundle(*command: str, kinds: tuple[LayerKind, ...] = tuple(LayerKind), **env: str) -> Bundle:
    layers = tuple(Layer(kind, f"sha256:{kind}", 1) for kind in kinds)
    return Bundle(
        digest="sha256:x",
        template="t",
        command=command,
        env=env,
        python="3.11" if "{python}" in command else None,
        layers=layers,
    )


def test_words_stand_for_the_folders_of_the_layers() -> None:
    names = places(bundle("{python}"), Folders())
    assert names == {
        "python": "/layers/dependencies/bin/python",
        "runtime": "/layers/runtime",
        "dependencies": "/layers/dependencies",
        "code": "/layers/code",
    }
    assert fill("{runtime}/x {code} {other} ${HOME}", names) == "/layers/runtime/x /layers/code {other} ${HOME}"


def test_without_dependencies_the_interpreter_is_this_one() -> None:
    names = places(bundle("{python}", kinds=(LayerKind.CODE,)), Folders())
    assert (names["python"], names["dependencies"], names["runtime"]) == (sys.executable, "", "")


def test_dependencies_of_node_hold_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    names = places(bundle("{node}", "main.js"), Folders())
    assert (names["python"], names["dependencies"]) == (sys.executable, "/layers/dependencies")


def test_node_is_looked_for_only_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "node" not in places(bundle("{python}"), Folders())
    with pytest.raises(MissingProgram, match=r"Node\.js is not on this machine: install it"):
        places(bundle("{node}", "main.js"), Folders())
    (tmp_path / "v20").mkdir()
    (tmp_path / "v20" / "node").touch(mode=0o755)
    (tmp_path / "node").symlink_to("v20/node")
    assert places(bundle("{node}", "main.js"), Folders())["node"] == str(tmp_path / "v20" / "node")


def test_a_bundles_environment() -> None:
    made = bundle("x", NODE_PATH="{dependencies}/node_modules", fprocess="./handler")
    names = places(made, Folders())
    environment = default_environment(made, names, temporary="/tmp", env_process=None)
    assert environment["PATH"].startswith("/layers/dependencies/bin:/usr/local/bin:")
    assert (environment["NODE_PATH"], environment["fprocess"]) == ("/layers/dependencies/node_modules", "./handler")
    assert (environment["HOME"], environment["TMPDIR"]) == ("/tmp", "/tmp")
    assert default_environment(made, names, temporary="/tmp", env_process="cat")["fprocess"] == "cat"
