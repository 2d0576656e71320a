from __future__ import annotations

import os
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import dependencies as module
from builder.dependencies import Dependencies, make_venv
from builder.pip import PipFailed, run_pip
from builder.requirements import Requirements
from builder.store import GRACE_S, BundleQuotaExceeded, BundleStore
from builder.wheelhouse import DependenciesFailed
from orchestration.bundle import Layer, LayerKind
from orchestration.interpreter import base_interpreter

MakeWheel = Callable[..., Path]


class Log(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def dependencies(store: BundleStore, log: Log) -> Dependencies:
    return Dependencies(store, log)


def run_in(store: BundleStore, layer: Layer, program: str) -> str:
    python = store.folder(layer) / "bin" / "python"
    return subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def removed(store: BundleStore, layer: Layer) -> None:
    """Remove a layer as a collection does."""
    with store.layers.lock():
        store.layers.remove(layer.digest)
    store.layers.empty_trash()


def test_without_requirements_there_is_one_empty_venv_and_no_pip(
    dependencies: Dependencies, store: BundleStore, log: Log
) -> None:
    layer = dependencies.layer(Requirements())
    assert dependencies.layer(Requirements()) == layer
    assert layer.kind is LayerKind.DEPENDENCIES
    assert log == []
    assert run_in(store, layer, "import sys; print(sys.prefix)") == str(store.folder(layer))
    assert run_in(store, layer, "import importlib.util as u; print(u.find_spec('pip'), u.find_spec('msgspec'))") == "None None"


def test_a_venv_has_no_packages_and_its_own_prefix(tmp_path: Path) -> None:
    make_venv(tmp_path, base_interpreter())
    program = "import site, sys; print(sys.prefix != sys.base_prefix, site.ENABLE_USER_SITE, sys.path[-1])"
    out = subprocess.run(
        [tmp_path / "bin/python3", "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert out.split() == ["True", "False", str(next(tmp_path.glob("lib/python3.*/site-packages")))]


def test_wheels_and_what_they_require_are_installed(
    dependencies: Dependencies, store: BundleStore, wheels: MakeWheel, log: Log
) -> None:
    wheels("pinned", "1.0")
    wheels("pinned", "2.0")
    wheels("needy", requires=("pinned<2",))
    layer = dependencies.layer(Requirements(("needy",)))
    assert run_in(store, layer, "import needy, pinned; print(needy.VERSION, pinned.VERSION)") == "1.0 1.0"
    assert any("Successfully installed" in line for line in log)
    assert layer.size_bytes > 0
    assert list(store.folder(layer).rglob("__pycache__/needy.*.pyc"))


def test_a_second_build_of_the_same_requirements_does_not_run_pip(
    dependencies: Dependencies, store: BundleStore, wheels: MakeWheel, log: Log
) -> None:
    wheels("thing")
    layer = dependencies.layer(Requirements(("thing",)))
    log.clear()
    wheels("thing", "2.0")
    assert Dependencies(store, log, offline=True).layer(Requirements(("thing",))) == layer
    assert log == []


def test_no_cache_resolves_anew(dependencies: Dependencies, store: BundleStore, wheels: MakeWheel) -> None:
    wheels("thing")
    first = dependencies.layer(Requirements(("thing",)))
    wheels("thing", "2.0")
    second = dependencies.layer(Requirements(("thing",)), no_cache=True)
    assert first.digest != second.digest
    assert run_in(store, second, "import thing; print(thing.VERSION)") == "2.0"
    assert dependencies.layer(Requirements(("thing",))) == second


def test_requirements_that_come_to_the_same_wheels_share_a_layer(dependencies: Dependencies, wheels: MakeWheel) -> None:
    wheels("thing")
    assert dependencies.layer(Requirements(("thing",))) == dependencies.layer(Requirements(("thing==1.0",)))


def test_constraints_bind(dependencies: Dependencies, store: BundleStore, wheels: MakeWheel) -> None:
    wheels("thing")
    wheels("thing", "2.0")
    layer = dependencies.layer(Requirements(("thing",), ("thing<2",)))
    assert run_in(store, layer, "import thing; print(thing.VERSION)") == "1.0"


def test_requirements_that_no_marker_selects_give_the_empty_venv(dependencies: Dependencies, wheels: MakeWheel) -> None:
    wheels("thing")
    assert dependencies.layer(Requirements(('thing; python_version < "3"',))) == dependencies.layer(Requirements())


def test_a_missing_package_is_one_line(dependencies: Dependencies, wheels: MakeWheel, log: Log) -> None:
    wheels("thing")
    with pytest.raises(DependenciesFailed) as caught:
        dependencies.layer(Requirements(("reqests",)))
    assert str(caught.value).startswith("No matching distribution found for reqests")
    assert "\n" not in str(caught.value)
    assert any(line.startswith("ERROR: Could not find a version") for line in log)


def test_a_conflict_is_one_line(dependencies: Dependencies, wheels: MakeWheel) -> None:
    wheels("pinned")
    wheels("needy", requires=("pinned>=2",))
    with pytest.raises(
        DependenciesFailed,
        match=r"Cannot install .*pinned.* conflicting dependencies|No matching distribution found for pinned",
    ):
        dependencies.layer(Requirements(("needy", "pinned==1.0")))


def test_offline_uses_the_wheels_that_were_kept(
    dependencies: Dependencies, store: BundleStore, wheels: MakeWheel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels("thing")
    layer = dependencies.layer(Requirements(("thing",)))
    removed(store, layer)
    monkeypatch.delenv("PIP_FIND_LINKS")
    again = Dependencies(store, log, offline=True).layer(Requirements(("thing", "thing>=1")))
    assert again.digest == layer.digest
    assert run_in(store, again, "import thing; print(thing.VERSION)") == "1.0"


def test_offline_says_what_is_missing_and_what_to_do(
    store: BundleStore, wheels: MakeWheel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels("thing")
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(
        DependenciesFailed, match=r"found for thing .*this builder is offline .* build once online, or put the wheels there"
    ):
        Dependencies(store, log, offline=True).layer(Requirements(("thing",)))


def test_a_collected_layer_is_made_again_from_kept_wheels(
    dependencies: Dependencies, store: BundleStore, wheels: MakeWheel, log: Log
) -> None:
    path = wheels("thing")
    layer = dependencies.layer(Requirements(("thing",)))
    removed(store, layer)
    path.unlink()
    log.clear()
    assert dependencies.layer(Requirements(("thing",))).digest == layer.digest
    assert not any("Saved" in line for line in log)


def test_collected_wheels_are_resolved_anew(dependencies: Dependencies, store: BundleStore, wheels: MakeWheel) -> None:
    wheels("thing")
    dependencies.layer(Requirements(("thing",)))
    assert store.collect((), time.time() + 2 * GRACE_S).layers
    assert list(store.wheels.iterdir()) == []
    wheels("thing", "2.0")
    layer = dependencies.layer(Requirements(("thing",)))
    assert run_in(store, layer, "import thing; print(thing.VERSION)") == "2.0"


def test_a_half_made_layer_is_made_again(dependencies: Dependencies, store: BundleStore, wheels: MakeWheel) -> None:
    wheels("thing")
    layer = dependencies.layer(Requirements(("thing",)))
    folder = store.folder(layer)
    folder.with_suffix(".json").unlink()
    for file in folder.rglob("thing.py"):
        file.unlink()
    assert dependencies.layer(Requirements(("thing",))) == layer
    assert run_in(store, layer, "import thing; print(thing.VERSION)") == "1.0"


def test_a_failed_installation_leaves_nothing(
    dependencies: Dependencies, store: BundleStore, wheels: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels("thing")

    def fails_to_install(arguments: list[str], *others: object, **options: object) -> None:
        if "install" in arguments:
            raise PipFailed("the disk caught fire")
        run_pip(arguments, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run_pip", fails_to_install)
    with pytest.raises(DependenciesFailed, match="the disk caught fire"):
        dependencies.layer(Requirements(("thing",)))
    assert list((store.root / "layers").iterdir()) == []
    assert list((store.root / "incoming").iterdir()) == []


def test_a_layer_above_the_quota_is_not_kept(tmp_path: Path, wheels: MakeWheel, log: Log) -> None:
    size = wheels("thing").stat().st_size
    small = BundleStore(tmp_path, quota_bytes=size + 100)
    with pytest.raises(BundleQuotaExceeded):
        Dependencies(small, log).layer(Requirements(("thing",)))
    assert list((tmp_path / "layers").iterdir()) == []


def test_what_would_not_fit_is_not_installed_first(
    tmp_path: Path, wheels: MakeWheel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = wheels("thing")
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", b"0" * 1_000_000)  # 1 KB in the wheel
    small = BundleStore(tmp_path / "small", quota_bytes=500_000)
    monkeypatch.setattr(Dependencies, "_install", None)
    with pytest.raises(BundleQuotaExceeded):
        Dependencies(small, log).layer(Requirements(("thing",)))


def test_nobody_ever_finds_a_layer_above_the_quota(
    store: BundleStore, dependencies: Dependencies, wheels: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels("thing")
    make_room = store.make_room

    def full_when_it_is_installed(needed_bytes: int, *others: object) -> None:
        if any((store.root / "layers").iterdir()):
            raise BundleQuotaExceeded("full")
        make_room(needed_bytes, *others)  # type: ignore[arg-type]

    def complete(*_: object) -> Layer:
        raise AssertionError("others could find it")

    monkeypatch.setattr(store, "make_room", full_when_it_is_installed)
    monkeypatch.setattr(store.layers, "complete", complete)
    with pytest.raises(BundleQuotaExceeded):
        dependencies.layer(Requirements(("thing",)))
    assert list((store.root / "layers").iterdir()) == []


def test_old_wheels_of_a_layer_that_is_made_again_are_not_taken_to_make_room_for_it(
    store: BundleStore, dependencies: Dependencies, wheels: MakeWheel
) -> None:
    wheels("thing")
    layer = dependencies.layer(Requirements(("thing",)))
    removed(store, layer)
    (wheel,) = store.wheels.glob("*.whl")
    os.utime(wheel, (0, 0))
    store.quota_bytes = wheel.stat().st_size + 10  # not enough: whatever may go would go
    with pytest.raises(BundleQuotaExceeded):
        dependencies.layer(Requirements(("thing",)))
    assert wheel.exists()


def test_a_time_limit_binds(store: BundleStore, wheels: MakeWheel, log: Log) -> None:
    wheels("thing")
    with pytest.raises(DependenciesFailed, match=r"pip took longer than 0\.01 s"):
        Dependencies(store, log, time_limit_s=0.01).layer(Requirements(("thing",)))


def test_a_wheel_that_was_changed_is_not_installed(dependencies: Dependencies, store: BundleStore, wheels: MakeWheel) -> None:
    wheels("thing")
    layer = dependencies.layer(Requirements(("thing",)))
    removed(store, layer)
    (store.wheels / "thing-1.0-py3-none-any.whl").write_bytes(b"not what it was")
    again = dependencies.layer(Requirements(("thing",)))
    assert again == layer
    assert run_in(store, again, "import thing; print(thing.VERSION)") == "1.0"
