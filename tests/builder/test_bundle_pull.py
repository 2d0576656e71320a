from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from builder.assembly import LAYER_ANNOTATION
from builder.bundle_pull import BundlePull, NotABundle
from builder.image_store import ImageStore
from builder.oci.archive import Entry, write_layer
from builder.oci.documents import MANIFEST, Descriptor, InvalidImage, Manifest, encode
from builder.packing import CODE_PLACE
from builder.store import BundleStore
from orchestration.bundle import LayerKind
from tests.builder.conftest import HANDLER, MakeFunction, MakeWheel
from tests.builder.image_place import Place, small_base


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "machine", small_base(tmp_path / "base"))


@pytest.fixture
def pull(store: BundleStore, place: Place) -> BundlePull:
    return BundlePull(store, ImageStore(place.store.root), lambda _: None)


def with_layer(place: Place, image: Descriptor, kind: LayerKind, *entries: Entry) -> Descriptor:
    """The image with another layer of that kind."""
    manifest = place.manifest(image)
    other = write_layer(place.layout, entries).blob
    layers = tuple(
        msgspec.structs.replace(other, annotations=layer.annotations)
        if (layer.annotations or {}).get(LAYER_ANNOTATION) == kind
        else layer
        for layer in manifest.layers
    )
    return place.layout.add(encode(msgspec.structs.replace(manifest, layers=layers)), MANIFEST)


def test_a_pulled_function_runs_with_its_packages(
    place: Place, pull: BundlePull, store: BundleStore, make_function: MakeFunction, wheels: MakeWheel
) -> None:
    wheels("thing", "4.2")
    built = place.build(make_function({"handler.py": HANDLER, "requirements.txt": "thing\n", "data.txt": "x"}))
    bundle = pull.unpacked(built, "hello:1")
    assert (bundle.template, bundle.command[1:3]) == ("python3-http", ("-I", "{runtime}/pinnace_runtime/__main__.py"))
    folders = {layer.kind: store.folder(layer) for layer in bundle.layers}
    assert (folders[LayerKind.CODE] / "function" / "data.txt").read_text() == "x"
    python = folders[LayerKind.DEPENDENCIES] / "bin" / "python"
    said = subprocess.run(
        [python, "-I", "-c", "import thing; print(thing.VERSION)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "4.2\n"
    assert list((folders[LayerKind.CODE] / "function" / "__pycache__").glob("handler.*.pyc"))


def test_runtime_and_code_are_the_layers_that_a_build_here_makes(
    place: Place, pull: BundlePull, store: BundleStore, make_function: MakeFunction, context_of: object
) -> None:
    from builder.bundle_build import BundleBuild
    from builder.templates import Templates

    function = make_function()
    bundle = pull.unpacked(place.build(function), "hello:1")
    with context_of(function).open("rb") as context:  # type: ignore[operator]
        built = BundleBuild(store, Templates(), place.log).run(context)
    for kind in (LayerKind.RUNTIME, LayerKind.CODE):
        assert bundle.layer(kind) == built.layer(kind)


def test_pulling_the_same_twice_makes_nothing_new(place: Place, pull: BundlePull, make_function: MakeFunction) -> None:
    built = place.build(make_function())
    first, second = pull.unpacked(built, "hello:1"), pull.unpacked(built, "hello:1")
    assert (first.digest, first.layers) == (second.digest, second.layers)


def test_other_peoples_images_are_refused(place: Place, pull: BundlePull) -> None:
    index = place.layout.add(encode(Manifest(schema_version=2, config=place.layout.add(b"{}", "x"), layers=())), MANIFEST)
    with pytest.raises(NotABundle, match=r"x:1 is not an image that Pinnace's builder made, .*deploy the function's folder"):
        pull.unpacked(index, "x:1")


def test_another_python_is_refused(tmp_path: Path, store: BundleStore, make_function: MakeFunction) -> None:
    place = Place(tmp_path / "other", small_base(tmp_path / "other-base", python="3.19"))
    pull = BundlePull(store, place.store, lambda _: None)
    with pytest.raises(NotABundle, match=r"is made for Python 3.19, and functions here run with"):
        pull.unpacked(place.build(make_function()), "hello:1")


def test_compiled_files_of_others_are_not_believed(
    place: Place, pull: BundlePull, store: BundleStore, make_function: MakeFunction
) -> None:
    """A layer is found by its sources: compiled files that say something else would run for whoever has the same sources."""
    built = place.build(make_function())
    name = f"{CODE_PLACE}/function/__pycache__/handler.{sys.implementation.cache_tag}.pyc"
    bad = with_layer(
        place, built, LayerKind.CODE, Entry(f"{CODE_PLACE}/function/handler.py", HANDLER.encode()), Entry(name, b"evil")
    )
    code = pull.unpacked(bad, "hello:1").layer(LayerKind.CODE)
    assert code is not None
    (compiled,) = (store.folder(code) / "function" / "__pycache__").iterdir()
    assert compiled.read_bytes() != b"evil"


@pytest.mark.parametrize("name", ["etc/passwd", f"{CODE_PLACE}/../../etc/passwd"])
def test_layers_that_reach_elsewhere_are_refused(
    place: Place, pull: BundlePull, make_function: MakeFunction, name: str
) -> None:
    built = place.build(make_function())
    with pytest.raises(InvalidImage):
        pull.unpacked(with_layer(place, built, LayerKind.CODE, Entry(name, b"")), "hello:1")
