"""Whole images, to and from Debian's docker-registry, which is not ours and keeps its own idea of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.oci.archive import Entry, write_layer
from builder.oci.documents import (
    CONFIG,
    EMPTY,
    INDEX,
    MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    InvalidImage,
    Manifest,
    OciPlatform,
    RootFs,
    encode,
)
from builder.oci.layout import Layout
from builder.registry import transfer
from builder.registry.client import Registry
from builder.registry.reference import Reference
from builder.registry.transfer import pull_image, pull_referrers, push_image
from builder.registry.transport import Transport
from tests.builder.registry.docker_registry import docker_registry

SBOM = "application/vnd.cyclonedx+json"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def registry(host: str) -> Iterator[Registry]:
    with Transport() as transport:
        yield Registry(host, transport, chunk_bytes=100_000, environment={})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def image(layout: Layout, *texts: str, architecture: str = "amd64") -> Descriptor:
    layers = [write_layer(layout, [Entry(f"{number}.txt", text.encode())]) for number, text in enumerate(texts)]
    rootfs = RootFs(type="layers", diff_ids=tuple(layer.diff_id for layer in layers))
    config = layout.add(encode(ImageConfig(architecture=architecture, os="linux", rootfs=rootfs)), CONFIG)
    manifest = Manifest(schema_version=2, media_type=MANIFEST, config=config, layers=tuple(layer.blob for layer in layers))
    stored = layout.add(encode(manifest), MANIFEST)
    return Descriptor(
        media_type=MANIFEST,
        digest=stored.digest,
        size=stored.size,
        platform=OciPlatform(architecture=architecture, os="linux"),
    )


def bill(layout: Layout, subject: Descriptor) -> Descriptor:
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST,
        artifact_type=SBOM,
        config=layout.add(b"{}", EMPTY),
        layers=(layout.add(b'{"bomFormat":"CycloneDX"}', SBOM),),
        subject=subject.bare(),
    )
    stored = layout.add(encode(manifest), MANIFEST)
    return Descriptor(media_type=MANIFEST, digest=stored.digest, size=stored.size, artifact_type=SBOM)


def test_an_image_goes_and_comes_back_the_same(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    built = image(layout, "one", "two")
    to = Reference(registry.host, "a/there-and-back", "v1")
    pushed = push_image(layout, built, to, registry, tags=("latest",))
    assert (pushed.digest, pushed.sent) == (built.digest, 3)
    other = Layout(tmp_path / "other")
    for tag in ("v1", "latest"):
        assert pull_image(other, Reference(registry.host, "a/there-and-back", tag), registry).digest == built.digest
    assert other.complete(built)


def test_what_is_there_is_not_sent_again(registry: Registry, layout: Layout) -> None:
    to = Reference(registry.host, "a/again", "v1")
    push_image(layout, image(layout, "base", "code"), to, registry)
    pushed = push_image(layout, image(layout, "base", "changed code"), to, registry)
    assert (pushed.there, pushed.sent) == (1, 2)  # the base; the code and the configuration
    pushed = push_image(layout, image(layout, "base", "changed code"), to, registry)
    assert (pushed.there, pushed.sent) == (0, 0)  # who has the manifest is not even asked for blobs


def test_layers_of_another_repository_are_mounted(registry: Registry, layout: Layout) -> None:
    base = image(layout, "a base of its own")
    push_image(layout, base, Reference(registry.host, "a/base", "v1"), registry)
    built = image(layout, "a base of its own", "code on it")
    mounts = {layout.document(base, Manifest).layers[0].digest: "a/base"}
    pushed = push_image(layout, built, Reference(registry.host, "a/function", "v1"), registry, mounts=mounts)
    assert pushed.mounted == 1


def test_a_large_layer_goes_in_chunks(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    layer = write_layer(layout, [Entry("noise", bytes(range(256)) * 2000)], "none")
    assert layer.blob.size > 5 * 100_000
    config = layout.add(
        encode(ImageConfig(architecture="amd64", os="linux", rootfs=RootFs("layers", (layer.diff_id,)))), CONFIG
    )
    built = layout.add(encode(Manifest(schema_version=2, media_type=MANIFEST, config=config, layers=(layer.blob,))), MANIFEST)
    to = Reference(registry.host, "a/large", "v1")
    push_image(layout, built, to, registry)
    other = Layout(tmp_path / "other")
    pull_image(other, to, registry)
    assert other.path(layer.blob.digest).read_bytes() == layout.path(layer.blob.digest).read_bytes()


def test_an_index_for_several_platforms(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    images = tuple(image(layout, f"for {name}", architecture=name) for name in ("amd64", "arm64"))
    built = layout.add(encode(Index(schema_version=2, media_type=INDEX, manifests=images)), INDEX)
    to = Reference(registry.host, "a/several", "v1")
    push_image(layout, built, to, registry)
    arm = pull_image(Layout(tmp_path / "arm"), to, registry, OciPlatform(architecture="arm64", os="linux"))
    assert arm.digest == images[1].digest
    whole = Layout(tmp_path / "whole")
    assert pull_image(whole, to, registry).digest == built.digest
    assert whole.complete(built)
    with pytest.raises(InvalidImage, match="is not there for linux/s390x; it is for linux/amd64, linux/arm64"):
        pull_image(whole, to, registry, OciPlatform(architecture="s390x", os="linux"))


def test_what_refers_to_an_image_goes_along(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    built = image(layout, "with a bill")
    layout.tag("x", built, (bill(layout, built),))
    to = Reference(registry.host, "a/bill", "v1")
    push_image(layout, built, to, registry)
    push_image(layout, built, to, registry)
    other = Layout(tmp_path / "other")
    pulled = pull_image(other, to, registry)
    (referrer,) = pull_referrers(other, to, registry, pulled)
    assert referrer.artifact_type == SBOM
    assert other.complete(referrer)


def test_a_pull_by_digest(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    built = image(layout, "by digest")
    push_image(layout, built, Reference(registry.host, "a/digest", "", built.digest), registry)
    found = pull_image(Layout(tmp_path / "other"), Reference(registry.host, "a/digest", "", built.digest), registry)
    assert found.digest == built.digest


def test_an_image_that_says_it_is_too_large_is_not_begun(
    registry: Registry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = Reference(registry.host, "a/huge", "v1")
    push_image(layout, image(layout, "one"), to, registry)
    monkeypatch.setattr(transfer, "LARGEST_IMAGE_BYTES", 100)
    other = Layout(tmp_path / "other")
    with pytest.raises(InvalidImage, match=r"a/huge:v1 has \d+ bytes; at most 100 are pulled"):
        pull_image(other, to, registry)
    assert list(other.blobs.iterdir()) == []


def test_an_index_of_indexes_is_refused(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    inner = layout.add(encode(Index(schema_version=2, media_type=INDEX, manifests=(image(layout, "one"),))), INDEX)
    outer = layout.add(encode(Index(schema_version=2, media_type=INDEX, manifests=(inner,))), INDEX)
    to = Reference(registry.host, "a/nested", "v1")
    push_image(layout, outer, to, registry)
    with pytest.raises(InvalidImage, match="is an index of indexes"):
        pull_image(Layout(tmp_path / "other"), to, registry)
