"""Dependency layers: a venv for each set of wheels, made once and shared by every function that needs the same set.

    requirements ─(remembered, else pip download)─► lock: wheels with hashes ─(pip install, offline)─► layer

The lock is what a layer is named after, with the interpreter that it was made for. A venv knows its own path, so it is
made where it stays. Downloaded wheels are kept, which is what makes a build without a network possible.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from builder.disk import write_durably
from builder.pip import TIME_LIMIT_S, PipFailed, run_pip
from builder.requirements import Requirements
from builder.store import BundleQuotaExceeded, BundleStore
from orchestration.bundle import Layer, LayerKind
from orchestration.interpreter import base_interpreter

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


class DependenciesFailed(RuntimeError):
    """The requirements cannot be had; one line says why."""


class LockedWheel(msgspec.Struct, frozen=True):
    """A wheel by file name and the SHA-256 of its content, in hexadecimal."""

    name: str
    sha256: str


class Lock(msgspec.Struct, frozen=True):
    """Exactly what a set of requirements came to when it was resolved."""

    wheels: tuple[LockedWheel, ...]

    def layer_digest(self, interpreter: Path) -> str:
        """Return the digest of the layer that holds these wheels for this interpreter."""
        content = msgspec.json.encode([LayerKind.DEPENDENCIES, self.wheels, *_made_for(interpreter)])
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Dependencies:
    """Makes dependency layers in a store. `offline` uses what is there and no network; `in_use` are bundles to keep.

    `log` gets pip's output, line by line.
    """

    def __init__(
        self,
        store: BundleStore,
        log: Callable[[str], None],
        *,
        offline: bool = False,
        in_use: Collection[str] = (),
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._store = store
        self._log = log
        self._offline = offline
        self._in_use = in_use
        self._time_limit_s = time_limit_s
        self._interpreter = base_interpreter()

    def layer(self, requirements: Requirements, *, no_cache: bool = False) -> Layer:
        """Return the layer for `requirements`, made now if it is not there. `no_cache` resolves them anew.

        Raises DependenciesFailed, and store.BundleQuotaExceeded.
        """
        if not requirements.names_packages:
            return self._made(Lock(()))
        remembered = self._store.locks / f"{requirements.digest(*_made_for(self._interpreter))}.json"
        lock = None if no_cache else _read_lock(remembered)
        if lock is not None:
            if layer := self._store.layers.find(lock.layer_digest(self._interpreter)):
                return layer
            if not self._has_wheels(lock):
                lock = None  # they were collected: see what the requirements come to today
        if lock is None:
            lock = self._resolve(requirements)
            write_durably(remembered, msgspec.json.encode(lock))
        return self._made(lock)

    def _resolve(self, requirements: Requirements) -> Lock:
        with self._store.layers.staging() as folder:
            (folder / "requirements.txt").write_text("\n".join((*requirements.lines, "")), encoding="utf-8")
            arguments = ["download", "--only-binary=:all:", "--dest=wheels", f"--find-links={self._store.wheels}"]
            if requirements.constraints:
                (folder / "constraints.txt").write_text("\n".join((*requirements.constraints, "")), encoding="utf-8")
                arguments.append("--constraint=constraints.txt")
            if self._offline:
                arguments.append("--no-index")
            try:
                run_pip([*arguments, "--requirement=requirements.txt"], folder, self._log, time_limit_s=self._time_limit_s)
            except PipFailed as error:
                if self._offline:
                    raise DependenciesFailed(
                        f"{error}; the gateway is offline and uses only the wheels in {self._store.wheels}: "
                        "build once online, or put the wheels there"
                    ) from None
                raise DependenciesFailed(str(error)) from None
            downloaded = sorted((folder / "wheels").glob("*.whl")) if (folder / "wheels").exists() else []
            self._store.make_room(sum(path.stat().st_size for path in downloaded), self._in_use, time.time())
            return Lock(tuple(self._keep(path) for path in downloaded))

    def _keep(self, wheel: Path) -> LockedWheel:
        locked = LockedWheel(wheel.name, _sha256(wheel))
        kept = self._store.wheels / wheel.name
        if not kept.exists() or _sha256(kept) != locked.sha256:
            wheel.chmod(0o644)
            wheel.rename(kept)
        os.utime(kept)
        return locked

    def _has_wheels(self, lock: Lock) -> bool:
        """Whether all wheels of the lock are kept. One that is not what it was is removed: pip would prefer it."""
        complete = True
        for wheel in lock.wheels:
            kept = self._store.wheels / wheel.name
            if not kept.exists():
                complete = False
            elif _sha256(kept) != wheel.sha256:
                kept.unlink()
                complete = False
        return complete

    def _made(self, lock: Lock) -> Layer:
        digest = lock.layer_digest(self._interpreter)
        if layer := self._store.layers.find(digest):
            return layer
        try:
            layer = self._make(lock, digest)
            self._store.make_room(0, self._in_use, time.time())
        except PipFailed as error:
            self._store.layers.discard(digest)
            raise DependenciesFailed(str(error)) from None
        except BundleQuotaExceeded:
            self._store.layers.discard(digest)
            raise
        return layer

    def _make(self, lock: Lock, digest: str) -> Layer:
        def say_so() -> None:
            self._log("waiting for another build that installs the same packages")

        with self._store.layers.in_place(digest, say_so) as (venv, lock_descriptor):
            if layer := self._store.layers.find(digest):  # somebody else made it while this build waited
                return layer
            make_venv(venv, self._interpreter)
            if lock.wheels:
                self._install(lock, venv, lock_descriptor)
            os.sync()  # thousands of files: one call for all of them
            return self._store.layers.complete(LayerKind.DEPENDENCIES, digest)

    def _install(self, lock: Lock, venv: Path, lock_descriptor: int) -> None:
        python = venv / "bin" / "python"
        wheels = [os.fspath(self._store.wheels / wheel.name) for wheel in lock.wheels]
        arguments = ["--python", os.fspath(python), "install", "--no-index", "--no-deps", *wheels]
        run_pip(arguments, venv, self._log, time_limit_s=self._time_limit_s, held=(lock_descriptor,))


def make_venv(folder: Path, interpreter: Path) -> None:
    """Make `folder` a venv of `interpreter` (PEP 405): links to it and an empty site-packages; no pip, no scripts."""
    (folder / "bin").mkdir()
    library = folder / "lib" / f"python{PYTHON_VERSION}" / "site-packages"
    library.mkdir(parents=True)
    if sys.maxsize > 2**32:
        (folder / "lib64").symlink_to("lib")
    for name in ("python", "python3", f"python{PYTHON_VERSION}"):
        (folder / "bin" / name).symlink_to(interpreter)
    (folder / "pyvenv.cfg").write_text(
        f"home = {interpreter.parent}\ninclude-system-site-packages = false\nversion = {sys.version.split()[0]}\n",
        encoding="utf-8",
    )


def _made_for(interpreter: Path) -> tuple[str, str, str]:
    return (PYTHON_VERSION, sysconfig.get_platform(), os.fspath(interpreter))


def _read_lock(path: Path) -> Lock | None:
    try:
        os.utime(path)
        return msgspec.json.decode(path.read_bytes(), type=Lock)
    except FileNotFoundError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
