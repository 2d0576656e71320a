"""An image that this builder made elsewhere becomes a bundle here: its layers, unpacked from a registry.

Only what our own images hold is taken, and as little of it as will do: compiled files are made anew, because two layers
with the same sources are one here, and nobody's compiled files may come to run for somebody else's sources. Any other image
is refused in words; on this machine functions are processes, not containers.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

import msgspec

from builder.assembly import LAYER_ANNOTATION
from builder.compiling import compile_folder
from builder.dependencies import PYTHON_VERSION, made_for, make_venv
from builder.disk import tree_size_bytes
from builder.image_store import ImageStore
from builder.job import ImageFailed
from builder.layers import COMPILED, folder_digest
from builder.oci.documents import Descriptor, Manifest, OciPlatform
from builder.oci.unpack import unpack_layer
from builder.packing import CODE_PLACE, DEPENDENCIES_PLACE, RUNTIME_PLACE
from builder.platform_image import BUNDLE_ANNOTATION, PackedBundle
from builder.platforms import host_platform
from builder.registry.reference import parse_reference
from builder.registry.transfer import connected, pull_image
from builder.source import is_handler_file
from builder.store import BundleStore
from orchestration.bundle import Bundle, Layer, LayerKind
from orchestration.interpreter import base_interpreter


class NotABundle(ImageFailed):
    """An image that cannot run here as a process; the message says why and what can be done."""


class BundlePull:
    """Pulls images into `images` and unpacks them into `store`. `in_use` are bundles that may not go to make room."""

    def __init__(
        self, store: BundleStore, images: ImageStore, log: Callable[[str], None], *, in_use: Collection[str] = ()
    ) -> None:
        self._store = store
        self._images = images
        self._log = log
        self._in_use = in_use

    def run(self, name: str) -> Bundle:
        """Pull the image of that name and publish its bundle under the name.

        Raises NotABundle, RegistryError, InvalidImage, InvalidImageName and BundleQuotaExceeded.
        """
        reference = parse_reference(name)
        self._log(f"pulling {reference}")
        wanted = OciPlatform(architecture=host_platform().architecture, os="linux")
        with connected(reference) as registry:
            image = pull_image(self._images.layout, reference, registry, wanted)
        if self._store.pulled(name) == image.digest:
            return self._store.resolve(name)
        bundle = self.unpacked(image, name)
        self._store.publish(name, bundle, image.digest)
        return bundle

    def unpacked(self, image: Descriptor, name: str) -> Bundle:
        """Return the bundle of the image in the layout, its layers complete in the store; it is not published yet."""
        manifest = self._images.layout.document(image, Manifest)
        packed = _packed(manifest, name)
        if packed.python not in (None, PYTHON_VERSION):
            raise NotABundle(
                f"{name} is made for Python {packed.python}, and functions here run with {PYTHON_VERSION}: "
                "build it on this gateway (faas deploy), or on a base image with that Python"
            )
        layers = []
        for layer in manifest.layers:
            kind = (layer.annotations or {}).get(LAYER_ANNOTATION)
            if kind == LayerKind.RUNTIME:
                layers.append(self._content_layer(layer, LayerKind.RUNTIME, RUNTIME_PLACE, lambda _: True))
            elif kind == LayerKind.DEPENDENCIES:
                make = self._venv_layer if packed.python is not None else self._modules_layer
                layers.append(make(layer))
            elif kind == LayerKind.CODE:
                layers.append(
                    self._content_layer(layer, LayerKind.CODE, CODE_PLACE, is_handler_file, python=packed.python is not None)
                )
        return bundle_of(packed, tuple(layers), time.time())

    def _content_layer(
        self, blob: Descriptor, kind: LayerKind, place: str, must_compile: Callable[[str], bool], *, python: bool = True
    ) -> Layer:
        layers = self._store.layers
        with layers.staging() as folder:
            staged = folder / "layer"
            unpack_layer(self._images.layout, blob, place, staged, leaves_out=_is_compiled)
            digest = folder_digest(staged)
            if layer := layers.find(digest):
                return layer
            if python:
                compile_folder(staged, self._log, must_compile)
            self._store.make_room(tree_size_bytes(staged), self._in_use, time.time())
            return layers.adopt(kind, digest, staged)

    def _modules_layer(self, blob: Descriptor) -> Layer:
        return self._content_layer(blob, LayerKind.DEPENDENCIES, DEPENDENCIES_PLACE, lambda _: False, python=False)

    def _venv_layer(self, blob: Descriptor) -> Layer:
        layers, interpreter = self._store.layers, base_interpreter()
        with layers.staging() as folder:
            staged = folder / "layer"
            unpack_layer(self._images.layout, blob, DEPENDENCIES_PLACE, staged, leaves_out=_is_no_package)
            content = [folder_digest(staged), *made_for(interpreter)]
            digest = f"sha256:{hashlib.sha256(msgspec.json.encode(content)).hexdigest()}"
            if layer := layers.find(digest):
                return layer
            self._store.make_room(tree_size_bytes(staged), self._in_use, time.time())
            with layers.in_place(digest) as (venv, _):
                if layer := layers.find(digest):
                    return layer
                make_venv(venv, interpreter)
                _fill(venv, staged)
                compile_folder(venv / "lib", lambda _: None, lambda _: False)
                os.sync()
                return layers.complete(LayerKind.DEPENDENCIES, digest)


def bundle_of(packed: PackedBundle, layers: tuple[Layer, ...], now: float) -> Bundle:
    """Return the bundle that the image was packed from, with its layers here. Its digest covers everything but the time."""
    of_layers = [(layer.kind, layer.digest) for layer in layers]
    content = [packed.template, packed.command, packed.env, packed.python, packed.listens, of_layers]
    return Bundle(
        digest=f"sha256:{hashlib.sha256(msgspec.json.encode(content, order='deterministic')).hexdigest()}",
        template=packed.template,
        command=packed.command,
        env=packed.env,
        python=packed.python,
        layers=layers,
        created_at=now,
        listens=packed.listens,
    )


def _packed(manifest: Manifest, name: str) -> PackedBundle:
    try:
        return msgspec.json.decode((manifest.annotations or {})[BUNDLE_ANNOTATION], type=PackedBundle)
    except (KeyError, msgspec.MsgspecError):
        raise NotABundle(
            f"{name} is not an image that Pinnace's builder made, and on this gateway functions run as processes, not as "
            "containers: deploy the function's folder (faas deploy FOLDER), or deploy this image to a cluster"
        ) from None


def _is_compiled(relative: PurePosixPath) -> bool:
    return COMPILED in relative.parts or relative.suffix in (".pyc", ".pyo")


def _is_no_package(relative: PurePosixPath) -> bool:
    """What a virtual environment brings itself: links to its interpreter, its settings; and compiled files."""
    own = len(relative.parts) == 2 and relative.parts[0] == "bin" and relative.name.startswith("python")
    return own or str(relative) in ("lib64", "pyvenv.cfg") or _is_compiled(relative)


def _fill(venv: Path, staged: Path) -> None:
    """Move packages and scripts into the virtual environment, whose interpreter the scripts then start."""
    theirs, ours = f"#!/{DEPENDENCIES_PLACE}/bin/python\n".encode(), f"#!{venv}/bin/python\n".encode()
    for parent, folders, files in os.walk(staged):
        place = venv / Path(parent).relative_to(staged)
        for name in folders:
            if not Path(parent, name).is_symlink():
                (place / name).mkdir(exist_ok=True)
        for name in (*files, *(folder for folder in folders if Path(parent, folder).is_symlink())):
            source = Path(parent, name)
            if place.name == "bin" and not source.is_symlink():
                content = source.read_bytes()
                if content.startswith(theirs):
                    source.write_bytes(ours + content.removeprefix(theirs))
            source.rename(place / name)
