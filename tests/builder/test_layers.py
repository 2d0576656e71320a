from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.layers import LayerStore, folder_digest
from orchestration.bundle import LayerKind

REPOSITORY = Path(__file__).parent.parent.parent
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path / "data", lambda: 1000.0)


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def executable(folder: Path) -> None:
    (folder / "a").chmod(0o755)


def link(folder: Path) -> None:
    (folder / "l").symlink_to("a")


def other_link(folder: Path) -> None:
    (folder / "l").symlink_to("b")


def empty_folder(folder: Path) -> None:
    (folder / "e").mkdir()


def rename(folder: Path) -> None:
    (folder / "a").rename(folder / "c")


def content(folder: Path) -> None:
    (folder / "a").write_text("2")


CHANGES: list[Callable[[Path], None]] = [executable, link, other_link, empty_folder, rename, content]


def test_digest_tells_apart_contents_names_modes_links_and_folders(tmp_path: Path) -> None:
    digests = {folder_digest(tree(tmp_path / "same", {"a": "1", "b/c": "1"}))}
    for change in CHANGES:
        folder = tree(tmp_path / change.__name__, {"a": "1", "b/c": "1"})
        change(folder)
        digests.add(folder_digest(folder))
    assert len(digests) == len(CHANGES) + 1


def test_digest_does_not_depend_on_times_order_or_compiled_files(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", {"a": "1", "b": "2", "c/d": "3"})
    two = tree(tmp_path / "two", {"c/d": "3", "b": "2", "a": "1", "c/__pycache__/d.pyc": "x"})
    os.utime(two / "a", (1, 1))
    (two / "b").chmod(0o600)
    assert folder_digest(one) == folder_digest(two)


NAMES = st.text("ab.-", min_size=1, max_size=3).filter(lambda name: name.strip("."))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(one=st.dictionaries(NAMES, st.text(max_size=3), max_size=4), two=st.dictionaries(NAMES, st.text(max_size=3), max_size=4))
def test_digests_are_equal_exactly_when_contents_are(tmp_path: Path, one: dict[str, str], two: dict[str, str]) -> None:
    digests = []
    for files in (one, two):
        folder = tmp_path / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, newline="")
        digests.append(folder_digest(folder))
    assert (digests[0] == digests[1]) == (one == two)


def test_an_adopted_folder_is_a_layer(layers: LayerStore) -> None:
    with layers.staging() as folder:
        digest = folder_digest(tree(folder / "code", {"handler.py": "12345"}))
        layer = layers.adopt(LayerKind.CODE, digest, folder / "code")
    assert (layer.kind, layer.digest, layer.size_bytes) == (LayerKind.CODE, digest, 5)
    assert layers.find(digest) == layer
    assert list(layers.all()) == [(layer, 1000.0)]
    assert not folder.exists()


def test_adopting_the_same_content_twice_gives_the_same_layer(layers: LayerStore) -> None:
    with layers.staging() as folder:
        digest = folder_digest(tree(folder / "one", {"a": "1"}))
        tree(folder / "two", {"a": "1"})
        assert layers.adopt(LayerKind.CODE, digest, folder / "one") == layers.adopt(LayerKind.CODE, digest, folder / "two")


def test_a_folder_without_its_record_is_no_layer_and_is_replaced(layers: LayerStore) -> None:
    with layers.staging() as folder:
        digest = folder_digest(tree(folder / "code", {"a": "1"}))
        tree(layers.path(digest), {"half": "made"})
        assert layers.find(digest) is None
        layers.adopt(LayerKind.CODE, digest, folder / "code")
    assert [path.name for path in layers.path(digest).iterdir()] == ["a"]


def test_a_layer_made_in_place_starts_empty(layers: LayerStore) -> None:
    tree(layers.path(DIGEST), {"left/over": "1", "file": "2"})
    with layers.in_place(DIGEST) as (folder, _):
        assert list(folder.iterdir()) == []
        (folder / "x").write_text("123")
        layer = layers.complete(LayerKind.DEPENDENCIES, DIGEST)
    with layers.in_place(DIGEST) as (folder, _):
        assert [path.name for path in folder.iterdir()] == ["x"]
    assert layers.find(DIGEST) == layer


def test_a_layer_that_is_given_up_while_it_is_made_is_gone_at_once(layers: LayerStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no room"), layers.in_place(DIGEST) as (folder, _):
        (folder / "x").write_text("123")
        raise ValueError("no room")
    assert not layers.path(DIGEST).exists()
    assert list((tmp_path / "data" / "incoming").iterdir()) == []


def test_what_is_given_up_after_a_layer_was_complete_leaves_it(layers: LayerStore) -> None:
    with layers.in_place(DIGEST):
        layer = layers.complete(LayerKind.DEPENDENCIES, DIGEST)
    with pytest.raises(ValueError, match="late"), layers.in_place(DIGEST):
        raise ValueError("late")
    assert layers.find(DIGEST) == layer
    assert layers.path(DIGEST).is_dir()


def test_a_removed_layer_is_out_of_the_way_at_once_and_its_files_go_later(layers: LayerStore, tmp_path: Path) -> None:
    with layers.staging() as folder:
        digest = folder_digest(tree(folder / "code", {"a": "1"}))
        layers.adopt(LayerKind.CODE, digest, folder / "code")
    with layers.lock():
        layers.remove(digest)
    assert layers.find(digest) is None
    assert not layers.path(digest).exists()
    assert [path.read_text() for path in (tmp_path / "data" / "incoming").rglob("a")] == ["1"]
    layers.empty_trash()
    assert list((tmp_path / "data" / "incoming").iterdir()) == []


def test_sweep_removes_what_is_half_made_and_keeps_layers(layers: LayerStore, tmp_path: Path) -> None:
    with layers.staging() as folder:
        digest = folder_digest(tree(folder / "code", {"a": "1"}))
        layers.adopt(LayerKind.CODE, digest, folder / "code")
    tree(layers.path(DIGEST), {"half": "made"})
    tree(tmp_path / "data" / "incoming" / "left", {"over": "1"})
    unfinished = tmp_path / "data" / "layers" / ".new-abc"
    unfinished.touch()
    os.utime(unfinished, (-5000, -5000))
    layers.sweep()
    assert not layers.path(DIGEST).exists()
    assert not unfinished.exists()
    assert list((tmp_path / "data" / "incoming").iterdir()) == []
    assert layers.find(digest) is not None


def test_sweep_leaves_alone_what_somebody_works_on(layers: LayerStore) -> None:
    with layers.staging() as staged, layers.in_place(DIGEST) as (place, _):
        LayerStore(layers.path(DIGEST).parent.parent, lambda: 1000.0).sweep()
        assert staged.is_dir()
        assert place.is_dir()


def test_a_killed_process_holds_no_lock(layers: LayerStore, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from builder.layers import LayerStore\n"
        "layers = LayerStore(Path(sys.argv[1]), lambda: 0.0)\n"
        "with layers.staging(), layers.in_place(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data"), DIGEST]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=30).returncode == -9
    assert layers.path(DIGEST).is_dir()
    layers.sweep()
    assert not layers.path(DIGEST).exists()
    assert list((tmp_path / "data" / "incoming").iterdir()) == []


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc", "md5:" + "0" * 64, "sha256:" + "G" * 64])
def test_a_digest_is_never_taken_for_a_path(layers: LayerStore, digest: str) -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        layers.find(digest)
