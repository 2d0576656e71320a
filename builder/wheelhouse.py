"""Requirements become a lock: exactly which wheels, with their hashes; for this machine or for another platform.

    requirements ─(remembered, else pip download)─► lock ─► wheels kept in a folder

Downloaded wheels are kept, which is what makes a build without a network possible. A lock is remembered by what was asked
for and for which target, so that the same requirements come to the same versions until somebody asks anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from builder.disk import PRIVATE_MODE, make_folder, write_durably
from builder.pip import TIME_LIMIT_S, PipFailed, run_pip
from builder.platforms import Target
from builder.requirements import Requirements

Staging = Callable[[], contextlib.AbstractContextManager[Path]]


class DependenciesFailed(RuntimeError):
    """The requirements cannot be had; one line says why."""


class LockedWheel(msgspec.Struct, frozen=True):
    """A wheel by file name and the SHA-256 of its content, in hexadecimal."""

    name: str
    sha256: str


class Lock(msgspec.Struct, frozen=True):
    """Exactly what a set of requirements came to when it was resolved."""

    wheels: tuple[LockedWheel, ...]


class Wheelhouse:
    """The kept wheels and remembered locks in two folders. `staging` gives a new folder on their disk for a while.

    `offline` uses what is there and no network. `room_for` is told before that many bytes are added. `log` gets pip's
    output, line by line. `variables` are for pip's environment (build secrets): then neither folder should be shared.
    """

    def __init__(
        self,
        wheels: Path,
        locks: Path,
        staging: Staging,
        log: Callable[[str], None],
        *,
        offline: bool = False,
        room_for: Callable[[int], None] = lambda _: None,
        time_limit_s: float = TIME_LIMIT_S,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.folder = wheels
        self._locks = locks
        self._staging = staging
        self._log = log
        self._offline = offline
        self._room_for = room_for
        self._time_limit_s = time_limit_s
        self._variables = variables or {}
        make_folder(wheels, PRIVATE_MODE)
        make_folder(locks, PRIVATE_MODE)

    def path(self, wheel: LockedWheel) -> Path:
        """Where the wheel is kept."""
        return self.folder / wheel.name

    def remembered(self, requirements: Requirements, made_for: tuple[str, ...]) -> Lock | None:
        """Return what the requirements came to for that interpreter or target when they were last resolved."""
        try:
            path = self._record(requirements, made_for)
            os.utime(path)
            return msgspec.json.decode(path.read_bytes(), type=Lock)
        except FileNotFoundError:
            return None

    def complete(self, lock: Lock) -> bool:
        """Whether all wheels of the lock are kept, and note that they are wanted. One that is not what it was is removed: pip
        would prefer it."""
        complete = True
        for wheel in lock.wheels:
            kept = self.path(wheel)
            if not kept.exists():
                complete = False
            elif _sha256(kept) != wheel.sha256:
                kept.unlink()
                complete = False
            else:
                os.utime(kept)
        return complete

    def resolve(self, requirements: Requirements, made_for: tuple[str, ...], target: Target | None = None) -> Lock:
        """See what the requirements come to today, keep the wheels, and remember it. None as `target` is this interpreter.

        Raises DependenciesFailed.
        """
        with self._staging() as folder:
            (folder / "requirements.txt").write_text("\n".join((*requirements.lines, "")), encoding="utf-8")
            arguments = ["download", "--only-binary=:all:", "--dest=wheels", f"--find-links={self.folder}"]
            if requirements.constraints:
                (folder / "constraints.txt").write_text("\n".join((*requirements.constraints, "")), encoding="utf-8")
                arguments.append("--constraint=constraints.txt")
            if self._offline:
                arguments.append("--no-index")
            try:
                run_pip(
                    [*arguments, "--requirement=requirements.txt"],
                    folder,
                    self._log,
                    time_limit_s=self._time_limit_s,
                    target=target,
                    variables=self._variables,
                )
            except PipFailed as error:
                if self._offline:
                    raise DependenciesFailed(
                        f"{error}; this builder is offline and uses only the wheels in {self.folder}: "
                        "build once online, or put the wheels there"
                    ) from None
                raise DependenciesFailed(str(error)) from None
            downloaded = sorted((folder / "wheels").glob("*.whl")) if (folder / "wheels").exists() else []
            self._room_for(sum(path.stat().st_size for path in downloaded))
            lock = Lock(tuple(self._keep(path) for path in downloaded))
        write_durably(self._record(requirements, made_for), msgspec.json.encode(lock))
        return lock

    def _keep(self, wheel: Path) -> LockedWheel:
        locked = LockedWheel(wheel.name, _sha256(wheel))
        kept = self.path(locked)
        if not kept.exists() or _sha256(kept) != locked.sha256:
            wheel.chmod(0o644)
            wheel.rename(kept)
        os.utime(kept)
        return locked

    def _record(self, requirements: Requirements, made_for: tuple[str, ...]) -> Path:
        return self._locks / f"{requirements.digest(*made_for)}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
