"""Dependency layers of Node.js functions: `node_modules`, made once for each lock and shared by functions of the same.

    package.json (+ package-lock.json) ─(checked)─► lock: the function's, one remembered, else npm resolves ─► npm ci ─► layer

Only packages of the registry are taken: a path would mean the platform's disk, a URL somebody else's host.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from builder.build_secrets import NO_SECRETS, BuildSecrets
from builder.disk import PRIVATE_MODE, locked_file, make_folder, tree_size_bytes, write_durably
from builder.npm import TIME_LIMIT_S, NpmFailed, node_version, run_npm
from builder.store import BundleStore
from orchestration.bundle import Layer, LayerKind

MANIFEST = "package.json"
LOCK = "package-lock.json"
MODULES = "node_modules"
CACHE = "npm"
CACHE_BYTES = 1 << 30

_LARGEST_FILE_BYTES = 8 << 20
_FROM_REGISTRY = re.compile(r"(?:npm:(?:@[\w.~-]+/)?[\w.~-]+(?:@[^/:]*)?|[^/:]*)")
_GROUPS = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")


class NodeDependenciesFailed(RuntimeError):
    """The packages cannot be had, or package.json asks for what is not accepted; one line says why."""


class Manifest(msgspec.Struct, frozen=True):
    """What matters of package.json, as JSON, and the function's own lock, None when it has none."""

    content: bytes
    lock: bytes | None
    names_packages: bool


class NodeDependencies:
    """Makes dependency layers in a store. `offline` uses npm's own cache and no network; `in_use` are bundles to keep.

    `development` adds what only tests need (`devDependencies`). `secrets` say where private packages are.
    `log` gets npm's output, line by line.
    """

    def __init__(
        self,
        store: BundleStore,
        log: Callable[[str], None],
        *,
        offline: bool = False,
        in_use: Collection[str] = (),
        development: bool = False,
        time_limit_s: float = TIME_LIMIT_S,
        secrets: BuildSecrets = NO_SECRETS,
    ) -> None:
        self._store = store
        self._log = log
        self._offline = offline
        self._in_use = in_use
        self._development = development
        self._time_limit_s = time_limit_s
        self._secrets = secrets

    def layer(self, function: Path, *, no_cache: bool = False) -> Layer:
        """Return the layer for the function in the folder, made now if it is not there. `no_cache` resolves anew.

        Raises NodeDependenciesFailed, and store.BundleQuotaExceeded.
        """
        try:
            manifest = read_manifest(function, development=self._development)
            made_for = (node_version(), os.uname().machine)
            lock = self._lock(manifest, made_for, no_cache=no_cache) if manifest.names_packages else b""
            return self._made(manifest, lock, made_for)
        except NpmFailed as error:
            hint = "; the gateway is offline and uses only npm's cache" if self._offline else ""
            raise NodeDependenciesFailed(f"{error}{hint}") from None

    def _lock(self, manifest: Manifest, made_for: tuple[str, str], *, no_cache: bool) -> bytes:
        if manifest.lock is not None:
            return manifest.lock
        remembered = self._store.locks / f"{_hash(manifest.content, *made_for, self._secrets.place)}.json"
        if not no_cache:
            try:
                os.utime(remembered)
                return remembered.read_bytes()
            except FileNotFoundError:
                pass
        with self._store.layers.staging() as folder:
            (folder / MANIFEST).write_bytes(manifest.content)
            self._npm(["install", "--package-lock-only"], folder)
            lock = (folder / LOCK).read_bytes()
        _check_lock(lock)
        write_durably(remembered, lock)
        return lock

    def _made(self, manifest: Manifest, lock: bytes, made_for: tuple[str, str]) -> Layer:
        content = manifest.content if lock else b""
        kind = "development" if self._development else "production"
        digest = f"sha256:{_hash(lock, 'node', kind, hashlib.sha256(content).hexdigest(), *made_for)}"
        if layer := self._store.layers.find(digest):
            return layer
        self._make_room(0)  # a full store is known before npm works; what it will take is not
        return self._make(digest, content, lock)

    def _make_room(self, size_bytes: int) -> None:
        self._store.make_room(size_bytes, self._in_use, time.time())

    def _make(self, digest: str, manifest: bytes, lock: bytes) -> Layer:
        def say_so() -> None:
            self._log("waiting for another build that installs the same packages")

        with self._store.layers.in_place(digest, say_so) as (folder, descriptor):
            if layer := self._store.layers.find(digest):  # somebody else made it while this build waited
                return layer
            (folder / MODULES).mkdir()
            if lock:
                self._install(folder, manifest, lock, descriptor)
            self._make_room(tree_size_bytes(folder))  # before others can find the layer
            os.sync()  # thousands of files: one call for all of them
            return self._store.layers.complete(LayerKind.DEPENDENCIES, digest)

    def _install(self, folder: Path, manifest: bytes, lock: bytes, descriptor: int) -> None:
        (folder / MANIFEST).write_bytes(manifest)
        (folder / LOCK).write_bytes(lock)
        arguments = ["ci", *([] if self._development else ["--omit=dev"])]
        self._npm(arguments, folder, descriptor)
        (folder / MODULES).mkdir(exist_ok=True)

    def _npm(self, arguments: list[str], folder: Path, *held: int) -> None:
        """Run npm with the store's own cache, which is begun anew when it has grown large and nobody uses it.

        What was fetched with secrets is kept apart.
        """
        root = self._store.root / CACHE
        make_folder(root, PRIVATE_MODE)
        lock = root / "lock"
        if tree_size_bytes(root) > CACHE_BYTES:
            with locked_file(lock):
                for place in root.iterdir():
                    if place.is_dir():
                        shutil.rmtree(place, ignore_errors=True)
        with locked_file(lock, shared=True):
            run_npm(
                arguments,
                folder,
                self._log,
                cache=root / (self._secrets.place or "shared"),
                offline=self._offline,
                time_limit_s=self._time_limit_s,
                held=held,
                variables=self._secrets.variables,
            )


def read_manifest(function: Path, *, development: bool = False) -> Manifest:
    """Return what the function's package.json and package-lock.json ask for. Raises NodeDependenciesFailed."""
    path = function / MANIFEST
    if not path.exists():
        return Manifest(b"", None, False)
    said = _read_json(path)
    kept: dict[str, Any] = {"name": "function", "version": "0.0.0", "private": True}
    if said.get("workspaces"):
        raise NodeDependenciesFailed(f"{MANIFEST}: workspaces are not accepted; put the code into the function's folder")
    for group in _GROUPS:
        packages = said.get(group) or {}
        if not isinstance(packages, dict):
            raise NodeDependenciesFailed(f"{MANIFEST}: {group} must be a mapping of packages to versions")
        for name, version in packages.items():
            if not isinstance(version, str) or not _FROM_REGISTRY.fullmatch(version):
                raise NodeDependenciesFailed(
                    f"{MANIFEST}: {group}: {name}: {version!r} is not a version in the registry, such as ^1.2.0; paths, URLs "
                    "and git repositories are not accepted"
                )
        if packages:
            kept[group] = packages
    if isinstance(said.get("overrides"), dict):
        _check_overrides(said["overrides"])
        kept["overrides"] = said["overrides"]
    lock = None
    if (lock_path := function / LOCK).exists():
        _read_json(lock_path)
        lock = lock_path.read_bytes()
        _check_lock(lock)
    groups = _GROUPS if development else ("dependencies", "optionalDependencies")
    return Manifest(json.dumps(kept, sort_keys=True).encode(), lock, any(kept.get(group) for group in groups))


def _check_lock(lock: bytes) -> None:
    """Raise NodeDependenciesFailed unless every package of the lock comes from a registry, by its hash."""
    content = json.loads(lock)
    if content.get("lockfileVersion") not in (2, 3):
        raise NodeDependenciesFailed(f"{LOCK}: lockfileVersion must be 2 or 3, as npm 7 and newer write it")
    packages = content.get("packages")
    if not isinstance(packages, dict):
        raise NodeDependenciesFailed(f"{LOCK}: packages must be a mapping")
    for name, package in packages.items():
        if not name:
            continue
        resolved = package.get("resolved", "") if isinstance(package, dict) else None
        if not isinstance(resolved, str) or package.get("link") or ".." in name.split("/") or name.startswith("/"):
            raise NodeDependenciesFailed(f"{LOCK}: {name} is a link; paths are not accepted")
        if resolved and (not resolved.startswith(("https://", "http://")) or not resolved.endswith((".tgz", ".tar.gz"))):
            raise NodeDependenciesFailed(f"{LOCK}: {name} comes from {resolved}; only a registry is accepted")
        if resolved and not package.get("integrity"):
            raise NodeDependenciesFailed(f"{LOCK}: {name} has no integrity hash: make the lock anew with npm install")


def _check_overrides(overrides: dict[str, Any]) -> None:
    for name, version in _leaves(overrides):
        if not isinstance(version, str) or not _FROM_REGISTRY.fullmatch(version.removeprefix("$")):
            raise NodeDependenciesFailed(f"{MANIFEST}: overrides: {name}: {version!r} is not a version in the registry")


def _leaves(overrides: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in overrides.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield name, value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
            raise NodeDependenciesFailed(f"{path.name} is outside of the function's folder")
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise NodeDependenciesFailed(f"{path.name} is larger than {_LARGEST_FILE_BYTES} bytes")
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise NodeDependenciesFailed(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise NodeDependenciesFailed(f"{path.name} is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise NodeDependenciesFailed(f"{path.name} must be an object")
    return said


def _hash(content: bytes, *context: str) -> str:
    return hashlib.sha256(msgspec.json.encode([*context, hashlib.sha256(content).hexdigest()])).hexdigest()
