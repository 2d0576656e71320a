from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.bundle_build import make_bundle
from builder.layers import folder_digest
from builder.store import DEFAULT_QUOTA_BYTES, GRACE_S, LOCK_GRACE_S, PRESSED_GRACE_S, BundleQuotaExceeded, BundleStore
from builder.templates import Templates
from orchestration.bundle import Bundle, Layer, LayerKind, UnknownBundle


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clocked(tmp_path: Path, clock: Clock) -> BundleStore:
    return BundleStore(tmp_path, quota_bytes=10_000, clock=clock)


def code_layer(store: BundleStore, text: str) -> Layer:
    with store.layers.staging() as folder:
        staged = folder / "code"
        staged.mkdir()
        (staged / "handler.py").write_text(text)
        return store.layers.adopt(LayerKind.CODE, folder_digest(staged), staged)


def published(store: BundleStore, image: str, text: str) -> Bundle:
    bundle = make_bundle(Templates().find("python3-http"), (code_layer(store, text),), 5.0)
    store.publish(image, bundle)
    return bundle


def test_a_published_bundle_is_found_by_name_full_name_and_digest(store: BundleStore) -> None:
    bundle = published(store, "hello", "x")
    for image in ("hello", "hello:latest", bundle.digest, f"registry.example.com/hello@{bundle.digest}"):
        assert store.resolve(image) == bundle
    assert (store.folder(bundle.layers[0]) / "handler.py").read_text() == "x"
    assert store.images() == {"hello:latest": bundle.digest}


def test_a_name_stands_for_its_last_build(store: BundleStore) -> None:
    first, second = published(store, "hello", "1"), published(store, "hello:latest", "2")
    assert store.resolve("hello") == second
    assert store.resolve(first.digest) == first


def test_publishing_the_same_content_again_changes_nothing(store: BundleStore) -> None:
    first = published(store, "hello", "1")
    again = msgspec.structs.replace(first, created_at=9.0)
    store.publish("hello", again)
    assert store.resolve("hello").created_at == first.created_at


@pytest.mark.parametrize("image", ["nobody", "sha256:" + "0" * 64, "Not An Image", ""])
def test_an_unknown_image_says_how_to_build_it(store: BundleStore, image: str) -> None:
    with pytest.raises(UnknownBundle, match=r"faas deploy.*faas-cli publish --remote-builder"):
        store.resolve(image)


def test_an_image_of_a_registry_is_pulled_from_listed_ones_only(store: BundleStore) -> None:
    with pytest.raises(UnknownBundle, match=r"images are pulled from the gateway's --registries only"):
        store.resolve("registry.example.com/team/hello:1")


def test_a_bundle_with_a_missing_layer_cannot_be_published(store: BundleStore) -> None:
    layer = Layer(LayerKind.CODE, "sha256:" + "1" * 64, 1)
    with pytest.raises(UnknownBundle, match="build it again"):
        store.publish("hello", make_bundle(Templates().find("python3"), (layer,), 0.0))
    assert store.images() == {}


def test_everything_survives_reopening(store: BundleStore) -> None:
    bundle = published(store, "hello", "x")
    again = BundleStore(store.root)
    again.sweep()
    assert again.resolve("hello") == bundle
    assert again.folder(bundle.layers[0]).is_dir()


def test_files_are_readable_but_not_writable_by_others(store: BundleStore) -> None:
    os.umask(0o077)
    try:
        bundle = published(store, "hello", "x")
    finally:
        os.umask(0o022)
    folder = store.folder(bundle.layers[0])
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "handler.py").stat().st_mode & 0o777 == 0o644


def test_collection_takes_what_no_revision_uses_after_its_grace(clocked: BundleStore, clock: Clock) -> None:
    used, unused = published(clocked, "used", "1"), published(clocked, "unused", "22")
    clock.now += GRACE_S - 1
    assert clocked.collect({used.digest}, clock.now).bundles == ()
    clock.now += 2
    collected = clocked.collect({used.digest}, clock.now)
    assert collected.bundles == (unused.digest,)
    assert collected.layers == (unused.layers[0].digest,)
    assert collected.freed_bytes == 2
    assert not clocked.folder(unused.layers[0]).exists()
    assert clocked.images() == {"used:latest": used.digest}
    assert clocked.resolve("used") == used


def test_resolving_a_bundle_starts_its_grace_anew(clocked: BundleStore, clock: Clock) -> None:
    bundle = published(clocked, "hello", "1")
    clock.now += GRACE_S - 1
    clocked.resolve("hello")
    clock.now += GRACE_S - 1
    assert clocked.collect((), clock.now).bundles == ()
    assert clocked.resolve(bundle.digest) == bundle


def test_collection_keeps_layers_that_another_bundle_shares(clocked: BundleStore, clock: Clock) -> None:
    shared = code_layer(clocked, "shared")
    template = Templates().find("python3-http")
    kept = make_bundle(template, (shared,), 0.0)
    gone = make_bundle(template, (shared, code_layer(clocked, "own")), 0.0)
    clocked.publish("kept", kept)
    clocked.publish("gone", gone)
    clock.now += GRACE_S + 1
    collected = clocked.collect([kept.digest], clock.now)
    assert collected.bundles == (gone.digest,)
    assert clocked.folder(shared).is_dir()


def test_a_layer_of_a_build_that_was_not_published_goes_too(clocked: BundleStore, clock: Clock) -> None:
    layer = code_layer(clocked, "orphan")
    clock.now += GRACE_S + 1
    assert clocked.collect((), clock.now).layers == (layer.digest,)
    assert clocked.usage_bytes() == 0


def test_room_is_made_by_taking_the_oldest_unused_bundles_first(clocked: BundleStore, clock: Clock) -> None:
    used = published(clocked, "used", "u" * 2000)
    clock.now += 1
    oldest = published(clocked, "oldest", "o" * 2000)
    clock.now += 1
    newer = published(clocked, "newer", "n" * 2000)
    clock.now += PRESSED_GRACE_S + 1
    clocked.make_room(5000, {used.digest}, clock.now)
    assert set(clocked.images()) == {"used:latest", "newer:latest"}
    assert clocked.resolve("newer") == newer
    with pytest.raises(UnknownBundle):
        clocked.resolve(oldest.digest)


def test_deploys_do_not_wait_for_the_files_of_what_is_removed(
    clocked: BundleStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free_to_deploy(path: Path, **_: object) -> None:
        with (clocked.root / "store.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        removed.append(path)

    removed: list[Path] = []
    monkeypatch.setattr("builder.disk.shutil.rmtree", free_to_deploy)
    for needed in (0, 9000):
        published(clocked, "unused", "b" * 2000)
        clock.now += GRACE_S + 1
        if needed:
            clocked.make_room(needed, (), clock.now)
        else:
            clocked.collect((), clock.now)
        assert clocked.images() == {}
    assert removed


def test_cached_wheels_go_before_bundles_when_room_is_made(clocked: BundleStore, clock: Clock) -> None:
    published(clocked, "unused", "b" * 2000)
    wheel = clocked.wheels / "x-1.0-py3-none-any.whl"
    wheel.write_bytes(b"w" * 5000)
    os.utime(wheel, (clock.now, clock.now))
    clock.now += PRESSED_GRACE_S + 1
    clocked.make_room(4000, (), clock.now)
    assert not wheel.exists()
    assert set(clocked.images()) == {"unused:latest"}


def test_a_full_store_says_what_is_used_and_what_to_do(clocked: BundleStore, clock: Clock) -> None:
    used = published(clocked, "used", "u" * 8000)
    clock.now += GRACE_S
    with pytest.raises(BundleQuotaExceeded, match=r"use 7.8 KiB of their quota of 9.8 KiB .* needs 3.9 KiB: remove functions"):
        clocked.make_room(4000, {used.digest}, clock.now)
    assert clocked.resolve("used") == used


def test_a_bundle_between_its_build_and_its_deploy_is_not_taken_to_make_room(clocked: BundleStore, clock: Clock) -> None:
    fresh = published(clocked, "fresh", "f" * 8000)
    clock.now += PRESSED_GRACE_S - 1
    with pytest.raises(BundleQuotaExceeded):
        clocked.make_room(4000, (), clock.now)
    assert clocked.resolve("fresh") == fresh


def test_locks_are_kept_for_long_and_not_for_ever(clocked: BundleStore, clock: Clock) -> None:
    lock = clocked.locks / "x.json"
    lock.touch()
    os.utime(lock, (clock.now, clock.now))
    clocked.collect((), clock.now + LOCK_GRACE_S - 1)
    assert lock.exists()
    clocked.collect((), clock.now + LOCK_GRACE_S)
    assert not lock.exists()


def test_functions_pass_to_layers_they_know_and_list_nothing_whatever_the_umask(tmp_path: Path) -> None:
    os.umask(0o077)
    try:
        BundleStore(tmp_path / "data")
    finally:
        os.umask(0o022)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir() if path.is_dir()}
    assert modes.pop("layers") == 0o711
    assert set(modes.values()) == {0o700}


def test_the_quota_has_a_default(store: BundleStore) -> None:
    assert store.quota_bytes == DEFAULT_QUOTA_BYTES
    store.make_room(DEFAULT_QUOTA_BYTES, (), 0.0)
    with pytest.raises(BundleQuotaExceeded):
        store.make_room(DEFAULT_QUOTA_BYTES + 1, (), 0.0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "resolve", "collect", "press"]), st.integers(0, 2), st.sampled_from([0.0, 1000.0, GRACE_S])
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_whatever_is_collected_what_can_be_named_is_whole_and_what_is_used_stays(steps: list[tuple[str, int, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        store = BundleStore(Path(folder), quota_bytes=5000, clock=clock)
        used = published(store, "used", "u" * 1000)
        for action, which, passes_s in steps:
            clock.now += passes_s
            if action == "publish":
                published(store, f"image-{which}", f"{which}" * 1000)
            elif action == "resolve":
                with contextlib.suppress(UnknownBundle):
                    store.resolve(f"image-{which}")
            elif action == "collect":
                store.collect({used.digest}, clock.now)
            else:
                with contextlib.suppress(BundleQuotaExceeded):
                    store.make_room(which * 2000, {used.digest}, clock.now)
            assert store.resolve("used") == used
            for digest in store.images().values():
                bundle = store._read(digest)  # `resolve` would say that it is wanted
                assert bundle is not None
                assert all((store.folder(layer) / "handler.py").is_file() for layer in bundle.layers)
