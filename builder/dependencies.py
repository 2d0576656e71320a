"""Dependency layers: a venv for each set of wheels, made once and shared by every function that needs the same set.

    requirements ─(builder.wheelhouse)─► lock: wheels with hashes ─(pip install, offline)─► layer

The lock is what a layer is named after, with the interpreter that it was made for. A venv knows its own path, so it is
made where it stays.
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

from builder.build_secrets import NO_SECRETS, BuildSecrets
from builder.disk import tree_size_bytes
from builder.pip import TIME_LIMIT_S, PipFailed, run_pip
from builder.requirements import Requirements
from builder.store import BundleStore
from builder.wheelhouse import DependenciesFailed, Lock, Wheelhouse
from builder.wheels import unpacked_bytes
from orchestration.bundle import Layer, LayerKind
from orchestration.interpreter import base_interpreter

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


class Dependencies:
    """Makes dependency layers in a store. `offline` uses what is there and no network; `in_use` are bundles to keep.

    `log` gets pip's output, line by line. `secrets` say where private packages are; what is fetched with them is kept apart.
    """

    def __init__(
        self,
        store: BundleStore,
        log: Callable[[str], None],
        *,
        offline: bool = False,
        in_use: Collection[str] = (),
        time_limit_s: float = TIME_LIMIT_S,
        secrets: BuildSecrets = NO_SECRETS,
    ) -> None:
        self._store = store
        self._log = log
        self._in_use = in_use
        self._time_limit_s = time_limit_s
        self._interpreter = base_interpreter()
        self._wheelhouse = Wheelhouse(
            store.wheels / secrets.place,
            store.locks / secrets.place,
            store.layers.staging,
            log,
            offline=offline,
            room_for=lambda size: store.make_room(size, in_use, time.time()),
            time_limit_s=time_limit_s,
            variables=dict(secrets.variables),
        )

    def layer(self, requirements: Requirements, *, no_cache: bool = False) -> Layer:
        """Return the layer for `requirements`, made now if it is not there. `no_cache` resolves them anew.

        Raises DependenciesFailed, and store.BundleQuotaExceeded.
        """
        if not requirements.names_packages:
            return self._made(Lock(()))
        here = made_for(self._interpreter)
        lock = None if no_cache else self._wheelhouse.remembered(requirements, here)
        if lock is not None:
            if layer := self._store.layers.find(layer_digest(lock, self._interpreter)):
                return layer
            if not self._wheelhouse.complete(lock):
                lock = None  # they were collected: see what the requirements come to today
        return self._made(lock or self._wheelhouse.resolve(requirements, here))

    def _made(self, lock: Lock) -> Layer:
        digest = layer_digest(lock, self._interpreter)
        if layer := self._store.layers.find(digest):
            return layer
        self._make_room(sum(unpacked_bytes(self._wheelhouse.path(wheel)) for wheel in lock.wheels))
        try:
            return self._make(lock, digest)
        except PipFailed as error:
            raise DependenciesFailed(str(error)) from None

    def _make_room(self, size_bytes: int) -> None:
        self._store.make_room(size_bytes, self._in_use, time.time())

    def _make(self, lock: Lock, digest: str) -> Layer:
        def say_so() -> None:
            self._log("waiting for another build that installs the same packages")

        with self._store.layers.in_place(digest, say_so) as (venv, lock_descriptor):
            if layer := self._store.layers.find(digest):  # somebody else made it while this build waited
                return layer
            make_venv(venv, self._interpreter)
            if lock.wheels:
                self._install(lock, venv, lock_descriptor)
            self._make_room(tree_size_bytes(venv))  # with what pip added; before others can find the layer
            os.sync()  # thousands of files: one call for all of them
            return self._store.layers.complete(LayerKind.DEPENDENCIES, digest)

    def _install(self, lock: Lock, venv: Path, lock_descriptor: int) -> None:
        python = venv / "bin" / "python"
        wheels = [os.fspath(self._wheelhouse.path(wheel)) for wheel in lock.wheels]
        arguments = ["--python", os.fspath(python), "install", "--no-index", "--no-deps", *wheels]
        run_pip(arguments, venv, self._log, time_limit_s=self._time_limit_s, held=(lock_descriptor,))


def layer_digest(lock: Lock, interpreter: Path) -> str:
    """Return the digest of the layer that holds these wheels for this interpreter."""
    content = msgspec.json.encode([LayerKind.DEPENDENCIES, lock.wheels, *made_for(interpreter)])
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


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


def made_for(interpreter: Path) -> tuple[str, str, str]:
    """Return what a virtual environment depends on beside its packages: version, platform and path of its interpreter."""
    return (PYTHON_VERSION, sysconfig.get_platform(), os.fspath(interpreter))
