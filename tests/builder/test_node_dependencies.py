from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder import node_dependencies
from builder.node_dependencies import MODULES, NodeDependencies, NodeDependenciesFailed, read_manifest
from builder.store import BundleQuotaExceeded, BundleStore
from orchestration.bundle import Layer
from tests.builder.npm_registry import Registry, serving

MakeFunction = Callable[..., Path]
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not on this machine")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    (tmp_path / "npmrc").write_text("fetch-retries=0\n")
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "npmrc"))
    with serving() as registry:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
        registry.add("shout", "module.exports = text => text.toUpperCase()", scripts={"postinstall": "touch /tmp/ran-a-script"})
        yield registry


def removed(store: BundleStore, layer: Layer) -> None:
    """Remove a layer as a collection does."""
    with store.layers.lock():
        store.layers.remove(layer.digest)
    store.layers.empty_trash()


def manifest(**content: Any) -> dict[str, str]:
    return {"handler.js": "", "package.json": json.dumps(content)}


def silent(line: str) -> None:
    pass


@needs_node
def test_a_layer_above_the_quota_is_not_kept(
    tmp_path: Path, make_function: MakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = BundleStore(tmp_path / "small", quota_bytes=1000)

    def install(self: NodeDependencies, folder: Path, *_: object) -> None:
        (folder / MODULES / "large.js").write_text("x" * 2000)

    monkeypatch.setattr(NodeDependencies, "_install", install)
    monkeypatch.setattr(NodeDependencies, "_lock", lambda *_, **__: b"{}")
    with pytest.raises(BundleQuotaExceeded):
        NodeDependencies(small, silent).layer(make_function(manifest(dependencies={"large": "1"})))
    assert list((small.root / "layers").iterdir()) == []


@needs_node
def test_a_function_without_packages_shares_one_empty_layer(store: BundleStore, make_function: MakeFunction) -> None:
    layers = NodeDependencies(store, silent)
    first = layers.layer(make_function({"handler.js": ""}, "a"))
    assert layers.layer(make_function(manifest(name="b", devDependencies={"jest": "^29.0.0"}), "b")) == first
    assert list(store.folder(first).iterdir()) == [store.folder(first) / MODULES]


@needs_npm
def test_packages_are_installed_once_and_run_no_scripts(
    store: BundleStore, make_function: MakeFunction, registry: Registry
) -> None:
    Path("/tmp/ran-a-script").unlink(missing_ok=True)
    layers = NodeDependencies(store, silent)
    first = layers.layer(make_function(manifest(dependencies={"shout": "^1.0.0"}), "a"))
    assert (store.folder(first) / MODULES / "shout" / "index.js").is_file()
    assert not Path("/tmp/ran-a-script").exists()
    registry.asked.clear()
    assert layers.layer(make_function(manifest(name="other", dependencies={"shout": "^1.0.0"}), "b")) == first
    registry.add("shout", "newer", "1.1.0")
    assert layers.layer(make_function(manifest(dependencies={"shout": "^1.0.0"}), "a")) == first
    assert registry.asked == []
    newer = layers.layer(make_function(manifest(dependencies={"shout": "^1.0.0"}), "a"), no_cache=True)
    assert newer != first
    assert (store.folder(newer) / MODULES / "shout" / "index.js").read_text() == "newer"


@needs_npm
def test_a_lock_of_the_functions_own_is_followed(store: BundleStore, make_function: MakeFunction, registry: Registry) -> None:
    """Also where it was made with another registry: the package comes from ours, by its hash."""
    layers = NodeDependencies(store, silent)
    made = layers.layer(make_function(manifest(dependencies={"shout": "^1.0.0"}), "a"))
    lock = (store.folder(made) / "package-lock.json").read_text().replace(registry.url, "https://registry.example.com")
    registry.add("shout", "newer", "1.1.0")
    function = make_function(manifest(dependencies={"shout": "^1.0.0"}) | {"package-lock.json": lock}, "b")
    layer = layers.layer(function, no_cache=True)
    assert "toUpperCase" in (store.folder(layer) / MODULES / "shout" / "index.js").read_text()
    (function / "package-lock.json").write_text(lock.replace("sha512-", "sha512-AAAA"))
    with pytest.raises(NodeDependenciesFailed, match=r"integrity checksum failed|EINTEGRITY"):
        layers.layer(function)
    assert [layer.digest for layer, _ in store.layers.all()].count(made.digest) == 1


@needs_npm
def test_development_packages_only_where_they_are_wanted(
    store: BundleStore, make_function: MakeFunction, registry: Registry
) -> None:
    registry.add("checker")
    function = make_function(manifest(dependencies={"shout": "1.0.0"}, devDependencies={"checker": "1.0.0"}))
    lean = store.folder(NodeDependencies(store, silent).layer(function)) / MODULES
    full = store.folder(NodeDependencies(store, silent, development=True).layer(function)) / MODULES
    assert (lean / "shout").is_dir() and not (lean / "checker").exists()
    assert (full / "shout").is_dir() and (full / "checker").is_dir()


@needs_npm
def test_what_was_downloaded_is_kept_within_a_bound(
    store: BundleStore, make_function: MakeFunction, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = make_function(manifest(dependencies={"shout": "1.0.0"}))
    layer = NodeDependencies(store, silent).layer(function)
    removed(store, layer)
    registry.asked.clear()
    assert NodeDependencies(store, silent, offline=True).layer(function) == layer
    assert registry.asked == []
    removed(store, layer)
    monkeypatch.setattr(node_dependencies, "CACHE_BYTES", 10)
    with pytest.raises(NodeDependenciesFailed, match="the gateway is offline and uses only npm's cache"):
        NodeDependencies(store, silent, offline=True).layer(function)


@needs_npm
def test_a_package_that_does_not_exist_is_named(store: BundleStore, make_function: MakeFunction, registry: Registry) -> None:
    with pytest.raises(NodeDependenciesFailed, match="no-such-package") as caught:
        NodeDependencies(store, silent).layer(make_function(manifest(dependencies={"no-such-package": "1"})))
    assert "\n" not in str(caught.value)
    assert list(store.layers.all()) == []


def test_without_npm_it_is_said_what_to_install(
    store: BundleStore, make_function: MakeFunction, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeDependenciesFailed, match="apt-get install nodejs npm"):
        NodeDependencies(store, silent).layer(make_function(manifest(dependencies={"shout": "1"})))
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v22.1.0\n")
    node.chmod(0o755)
    with pytest.raises(NodeDependenciesFailed, match=r"npm is not on this machine, and package\.json lists dependencies"):
        NodeDependencies(store, silent).layer(make_function(manifest(dependencies={"shout": "1"})))
    node.write_text("#!/bin/sh\necho v16.20.0\n")
    with pytest.raises(NodeDependenciesFailed, match=r"Node\.js here is v16\.20\.0; node functions need 18 or newer"):
        NodeDependencies(store, silent).layer(make_function(manifest(dependencies={"shout": "1"})))


ACCEPTED = ["1.2.3", "^1.2.0", ">=1 <3", "1.x || 2.x", "latest", "*", "", "npm:shout@1", "npm:@scope/shout@^2"]
REFUSED = [
    "file:../../etc",
    "link:../x",
    "git+ssh://git@example.com/x.git",
    "https://example.com/x.tgz",
    "user/repository",
    "github:user/repository",
    "../x",
    "workspace:*",
    "npm:../x",
]


@pytest.mark.parametrize("version", ACCEPTED)
def test_versions_of_the_registry_are_accepted(make_function: MakeFunction, version: str) -> None:
    assert read_manifest(make_function(manifest(dependencies={"shout": version}))).names_packages


@pytest.mark.parametrize("version", REFUSED)
@pytest.mark.parametrize("group", ["dependencies", "devDependencies", "optionalDependencies", "overrides"])
def test_paths_and_urls_are_refused(make_function: MakeFunction, group: str, version: str) -> None:
    function = make_function(manifest(**{"dependencies": {"a": "1"}, group: {"shout": version}}))
    with pytest.raises(NodeDependenciesFailed, match=f"package.json: {group}: shout: "):
        read_manifest(function)


PACKAGE = {"version": "1.0.0", "resolved": "https://r.example.com/shout/-/shout-1.0.0.tgz", "integrity": "sha512-AAAA"}
LOCKS = [
    ({"lockfileVersion": 1, "dependencies": {}}, "lockfileVersion must be 2 or 3"),
    ({"lockfileVersion": 3}, "packages must be a mapping"),
    ({"lockfileVersion": 3, "packages": {"node_modules/x": {"resolved": "../x", "link": True}}}, "is a link"),
    ({"lockfileVersion": 3, "packages": {"../x": {**PACKAGE}}}, "is a link"),
    ({"lockfileVersion": 3, "packages": {"node_modules/x": {**PACKAGE, "resolved": "git+ssh://h/x"}}}, "only a registry"),
    ({"lockfileVersion": 3, "packages": {"node_modules/x": {**PACKAGE, "resolved": "file:x.tgz"}}}, "only a registry"),
    ({"lockfileVersion": 3, "packages": {"node_modules/x": {**PACKAGE, "integrity": ""}}}, "no integrity hash"),
    ({"lockfileVersion": 3, "packages": {"node_modules/x": "1.0.0"}}, "is a link"),
]


@pytest.mark.parametrize(("lock", "message"), LOCKS)
def test_a_lock_may_only_name_packages_of_a_registry(make_function: MakeFunction, lock: dict[str, Any], message: str) -> None:
    function = make_function(manifest(dependencies={"x": "1"}) | {"package-lock.json": json.dumps(lock)})
    with pytest.raises(NodeDependenciesFailed, match=f"package-lock.json: .*{message}"):
        read_manifest(function)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "package.json is not JSON"),
        ("[]", "package.json must be an object"),
        ('{"dependencies": []}', ""),
        ('{"dependencies": ["x"]}', "dependencies must be a mapping"),
        ('{"dependencies": {"x": 1}}', "is not a version in the registry"),
        ('{"workspaces": ["a"]}', "workspaces are not accepted"),
    ],
)
def test_a_manifest_that_cannot_be_is_named(make_function: MakeFunction, text: str, message: str) -> None:
    function = make_function({"package.json": text})
    if not message:
        assert not read_manifest(function).names_packages
        return
    with pytest.raises(NodeDependenciesFailed, match=message):
        read_manifest(function)


def test_a_manifest_may_not_lie_elsewhere(make_function: MakeFunction, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    function = make_function({"handler.js": ""})
    (function / "package.json").symlink_to("../secret.json")
    with pytest.raises(NodeDependenciesFailed, match=r"package\.json is outside of the function's folder"):
        read_manifest(function)
