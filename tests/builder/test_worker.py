from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from builder import worker
from builder.bundle_build import BundleBuild
from builder.events import BuildEvent
from builder.job import Job
from builder.store import BundleStore
from builder.templates import TEMPLATES_FOLDER

MakeFunction = Callable[..., Path]
MakeTar = Callable[..., Path]


def events_of(store: BundleStore, tar: Path) -> list[BuildEvent]:
    out = io.BytesIO()
    job = Job(
        context=str(tar),
        root=str(store.root),
        quota_bytes=store.quota_bytes,
        templates=str(TEMPLATES_FOLDER),
        offline=True,
        in_use=[],
    )
    worker.run(job, out)
    return [msgspec.json.decode(line, type=BuildEvent) for line in out.getvalue().splitlines()]


def test_a_build_ends_with_its_success(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    events = events_of(store, context_of(make_function()))
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
    assert {event.image for event in events} == {"hello:latest"}
    assert events[-2].log == [f"bundle {store.resolve('hello').digest}"]


def test_what_the_user_did_wrong_is_the_error(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    events = events_of(store, context_of(make_function({"handler.py": "x = 1", "requirements.txt": "./local\n"})))
    assert events[-1].status == "failed"
    assert events[-1].error.startswith("requirements.txt line 1: './local' is a path; ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the gateway's disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the gateway's disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "the build could not use the disk: "),
    ],
)
def test_a_disk_that_cannot_be_used_is_a_failure(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(BundleBuild, "run", fails)
    (tmp_path / "tar").touch()
    last = events_of(store, tmp_path / "tar")[-1]
    assert last.status == "failed"
    assert last.error.startswith(said)


def test_a_fault_of_ours_is_not_hidden(store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(BundleBuild, "run", fails)
    (tmp_path / "tar").touch()
    with pytest.raises(KeyError):
        events_of(store, tmp_path / "tar")
