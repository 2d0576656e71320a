"""Watching real files. The clock is the test's: each sleep lets the test change something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.watch import AT_REST_S, LOOK_EVERY_S, RESTLESS_S, Watch


class Sleeps:
    """Runs the steps of a test, one at each sleep; a watch that sleeps on after the last has missed something."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._steps = list(steps)

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        assert self.now < 60, "it waits for ever"
        if self._steps:
            self._steps.pop(0)()

    def clock(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handler.py").write_text("1")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "x.py").write_text("1")
    return tmp_path


def first_change(folder: Path, *steps: Callable[[], object]) -> tuple[dict[str, list[Path]], Sleeps]:
    sleeps = Sleeps(*steps)
    return next(Watch({"f": [folder]}, sleep=sleeps, clock=sleeps.clock).changes()), sleeps


def nothing() -> None:
    pass


def in_a_new_folder(folder: Path) -> None:
    (folder / "lib" / "y").mkdir()
    (folder / "lib" / "y" / "z.py").touch()


def replaced(folder: Path) -> None:
    (folder / "other.tmp").write_text("1")
    (folder / "other.tmp").rename(folder / "handler.py")


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("handler.py", lambda folder: (folder / "handler.py").write_text("22")),
    ("new.py", lambda folder: (folder / "new.py").write_text("")),
    ("lib/x.py", lambda folder: (folder / "lib" / "x.py").unlink()),
    ("lib/y/z.py", in_a_new_folder),
    ("handler.py", replaced),
]


@pytest.mark.parametrize(("file", "change"), CHANGES)
def test_a_change_is_seen(folder: Path, file: str, change: Callable[[Path], object]) -> None:
    changed, sleeps = first_change(folder, nothing, lambda: change(folder))
    assert changed == {"f": [folder / file]}
    assert sleeps.slept == [LOOK_EVERY_S, LOOK_EVERY_S, AT_REST_S]


@pytest.mark.parametrize(
    "name",
    [".handler.py.swp", "handler.py~", "4913", "x.tmp", "x.pyc", "__pycache__/x", "node_modules/x", ".git/x", "ignored/x"],
)
def test_what_tools_write_is_no_change(folder: Path, name: str) -> None:
    (folder / ".pinnaceignore").write_text("ignored/\n")

    def tool() -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("1")

    changed, _ = first_change(folder, tool, nothing, lambda: (folder / "handler.py").write_text("22"))
    assert changed == {"f": [folder / "handler.py"]}


def test_a_save_of_several_files_is_one_change(folder: Path) -> None:
    saves = [lambda n=n: (folder / f"{n}.py").write_text("x") for n in range(4)]
    changed, _ = first_change(folder, *saves)
    assert changed == {"f": [folder / f"{n}.py" for n in range(4)]}


def test_a_folder_without_rest_is_deployed_all_the_same(folder: Path) -> None:
    steps = [lambda n=n: (folder / "log").write_text("x" * n) for n in range(1000)]
    changed, sleeps = first_change(folder, *steps)
    assert changed == {"f": [folder / "log"]}
    assert RESTLESS_S <= sleeps.now < RESTLESS_S + 1


def test_only_the_group_that_changed_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    stack = tmp_path / "stack.yaml"
    sleeps = Sleeps((tmp_path / "b" / "x").touch, nothing, lambda: stack.write_text("x"))
    watch = Watch({"a": [tmp_path / "a"], "b": [tmp_path / "b"], "": [stack]}, sleep=sleeps, clock=sleeps.clock)
    assert next(watch.changes()) == {"b": [tmp_path / "b" / "x"]}
    assert next(watch.changes()) == {"": [stack]}


def test_what_changes_while_the_caller_works_is_seen_afterwards(folder: Path) -> None:
    sleeps = Sleeps((folder / "a").touch)
    changes = Watch({"f": [folder]}, sleep=sleeps, clock=sleeps.clock).changes()
    assert next(changes) == {"f": [folder / "a"]}
    (folder / "b").touch()
    assert next(changes) == {"f": [folder / "b"]}


def test_what_is_changed_back_before_it_rests_is_no_change(folder: Path) -> None:
    changed, _ = first_change(
        folder, (folder / "brief").touch, (folder / "brief").unlink, nothing, nothing, (folder / "real").touch
    )
    assert changed == {"f": [folder / "real"]}
