"""The image of one function for one platform, in the order in which it is made.

base → requirements → runtime layer, dependency layer, code layer → configuration → manifest → bill of materials.

The layers are a bundle's, packed (`builder.packing`), so that the template's command means the same in both. Their order
is by how seldom they change, so that a changed handler is one new layer. Everything that bytes depend on is in the key
under which a layer is kept, and nothing else is in the bytes.
"""

from __future__ import annotations

import contextlib
import platform as machine
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from builder.assembly import LAYER_ANNOTATION, OCI, USER, assembled, bill_of, variables_of
from builder.bases import Base, Bases
from builder.build_secrets import BuildSecrets
from builder.context import InvalidContext
from builder.dependencies import PYTHON_VERSION
from builder.image_store import ImageStore
from builder.layers import folder_digest
from builder.node_dependencies import MODULES, NodeDependencies
from builder.oci.archive import Compression, LayerBlob, write_layer
from builder.oci.documents import Descriptor, RunConfig, sha256
from builder.packing import CODE_PLACE, DEPENDENCIES_PLACE, RUNTIME_PLACE, native_file, tree, venv
from builder.platforms import Platform, Target, host_platform
from builder.source import is_handler_file, python_requirements
from builder.store import BundleStore
from builder.templates import HANDLER_FOLDER, Template, Templates
from builder.wheelhouse import Lock, Wheelhouse
from builder.wheels import Distribution, open_wheel
from orchestration.bundle import LayerKind, Listens

FORMAT = 1
"""Counts changes of what layers look like: it is in every key, so that no old layer is taken for a new one."""

DIGEST_ANNOTATION = "dev.pinnace.digest"
BUNDLE_ANNOTATION = "dev.pinnace.bundle"


class PackedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What of a bundle is not in the layers: with it, an image can become a bundle again. On the manifest, as JSON."""

    template: str
    command: tuple[str, ...]
    env: dict[str, str]
    python: str | None
    listens: Listens


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the images of a build have in common, whatever their platform. `created` dates them, as in RFC 3339.

    `log` gets what pip and npm say, too; `pull` asks the base's registry what its name stands for now; `secrets` say where
    private packages are; `sbom` asks for a bill of materials.
    """

    store: ImageStore
    templates: Templates
    wheelhouse: Wheelhouse
    log: Callable[[str], None]
    pull: bool
    offline: bool
    compression: Compression
    labels: Mapping[str, str]
    created: str
    sbom: bool
    secrets: BuildSecrets


class PlatformImage:
    """The image of one function for one platform, step by step."""

    def __init__(
        self, recipe: Recipe, template: Template, code: Path, base: str, platform: Platform, *, no_cache: bool
    ) -> None:
        self._recipe = recipe
        self._store = recipe.store
        self._layout = recipe.store.layout
        self._log = recipe.log
        self._template = template
        self._code = code
        self._platform = platform
        self._no_cache = no_cache
        self._base: Base = Bases(self._store, self._log, offline=recipe.offline).find(base, platform, pull=recipe.pull)
        self._target: Target | None = None
        self._lock = Lock(())
        if template.dependencies == "python":
            self._target = self._base.contents.target(platform, base)
            self._lock = self._locked(self._target)
        elif template.dependencies == "node" and self._base.contents.node is None:
            raise InvalidContext(f"the base image {base} has no Node.js: none of usr/bin, usr/local/bin has a node")
        self._compiles = self._target is not None and self._target.minor == PYTHON_VERSION
        if self._target is not None and not self._compiles:
            self._log(
                f"warning: the base image has Python {self._target.minor} and this builder {PYTHON_VERSION}: "
                "nothing is compiled ahead, and first imports take longer"
            )

    def build(self) -> tuple[Descriptor, Descriptor | None]:
        """Return the image and its bill of materials, if one is wanted."""
        made = (self._runtime_layer(), self._dependency_layer(), self._code_layer())
        layers = [layer for layer in made if layer is not None]
        created = self._recipe.created
        image = assembled(self._layout, self._base, layers, self._run_config(), self._platform, self._annotations(), created)
        if not self._recipe.sbom:
            return image, None
        packages = list(zip(self._lock.wheels, self._distributions(), strict=True))
        return image, bill_of(self._layout, image, self._base, packages, created)

    def _locked(self, target: Target) -> Lock:
        """What the requirements come to. The wheels themselves are looked at only if something is to be made of them."""
        requirements = python_requirements(self._code, self._template)
        if not requirements.names_packages:
            return Lock(())
        house, made_for = self._recipe.wheelhouse, ("image", str(target), target.python)
        lock = None if self._no_cache else house.remembered(requirements, made_for)
        if lock is not None and (self._needs_no_wheels(lock, target) or house.complete(lock)):
            return lock
        self._log(f"resolving requirements for {target}")
        return house.resolve(requirements, made_for, target)

    def _needs_no_wheels(self, lock: Lock, target: Target) -> bool:
        return self._store.knows(self._venv_key(lock, target)) and self._store.recalls(_distributions_key(lock))

    def _runtime_layer(self) -> tuple[LayerBlob, Descriptor] | None:
        folder = self._recipe.templates.runtime(self._template)
        if folder is None:
            return None
        digest = folder_digest(folder)

        def make() -> LayerBlob:
            entries = tree(folder, RUNTIME_PLACE, compiles=self._compiles, must_compile=lambda _: True, log=self._log)
            return write_layer(self._layout, entries, self._recipe.compression)

        return self._layer(LayerKind.RUNTIME, digest, [digest], make)

    def _code_layer(self) -> tuple[LayerBlob, Descriptor]:
        digest = folder_digest(self._code)

        def make() -> LayerBlob:
            entries = tree(self._code, CODE_PLACE, compiles=self._compiles, must_compile=is_handler_file, log=self._log)
            return write_layer(self._layout, entries, self._recipe.compression)

        return self._layer(LayerKind.CODE, digest, [digest], make)

    def _dependency_layer(self) -> tuple[LayerBlob, Descriptor] | None:
        if self._target is not None:
            return self._venv_layer(self._target)
        return self._modules_layer() if self._template.dependencies == "node" else None

    def _venv_layer(self, target: Target) -> tuple[LayerBlob, Descriptor]:
        python = self._base.contents.python
        assert python is not None  # it has a target
        inputs = self._venv_inputs(self._lock, target)
        wheels = [self._recipe.wheelhouse.path(locked) for locked in self._lock.wheels]

        def make() -> LayerBlob:
            self._distributions()  # while the wheels are here
            with contextlib.ExitStack() as stack:
                entries = venv(wheels, python, target.minor, stack, compiles=self._compiles)
                return write_layer(self._layout, entries, self._recipe.compression)

        digest = sha256(msgspec.json.encode([LayerKind.DEPENDENCIES, *inputs], order="deterministic"))
        return self._layer(LayerKind.DEPENDENCIES, digest, inputs, make)

    def _venv_inputs(self, lock: Lock, target: Target) -> list[Any]:
        return [lock.wheels, self._base.contents.python, target.minor, self._platform.architecture]

    def _venv_key(self, lock: Lock, target: Target) -> list[Any]:
        return self._key(LayerKind.DEPENDENCIES, self._venv_inputs(lock, target), compiles=target.minor == PYTHON_VERSION)

    def _modules_layer(self) -> tuple[LayerBlob, Descriptor]:
        store = BundleStore(self._store.root / "node")
        packages = NodeDependencies(store, self._log, offline=self._recipe.offline, secrets=self._recipe.secrets)
        layer = packages.layer(self._code / HANDLER_FOLDER, no_cache=self._no_cache)
        folder = store.folder(layer) / MODULES
        if self._platform != host_platform() and (native := native_file(folder)):
            raise InvalidContext(
                f"{native} in {MODULES} is a program for {host_platform()}, where this is built, and not for {self._platform}: "
                f"build on a machine of that kind, or leave the package out"
            )
        digest = folder_digest(folder)

        def make() -> LayerBlob:
            place = f"{DEPENDENCIES_PLACE}/{MODULES}"
            entries = tree(folder, place, compiles=False, must_compile=lambda _: False, log=self._log)
            return write_layer(self._layout, entries, self._recipe.compression)

        return self._layer(LayerKind.DEPENDENCIES, digest, [digest], make)

    def _layer(
        self, kind: LayerKind, digest: str, inputs: list[Any], make: Callable[[], LayerBlob]
    ) -> tuple[LayerBlob, Descriptor]:
        layer, made = self._store.layer(self._key(kind, inputs, compiles=self._compiles), make)
        if made:
            self._log(f"{kind} layer {layer.blob.digest}, {layer.blob.size} bytes")
        annotations = {DIGEST_ANNOTATION: digest, LAYER_ANNOTATION: str(kind)}
        return layer, msgspec.structs.replace(layer.blob, annotations=annotations)

    def _key(self, kind: LayerKind, inputs: list[Any], *, compiles: bool) -> list[Any]:
        """Everything that a layer's bytes depend on."""
        compiler = machine.python_version() if compiles else ""
        return [FORMAT, kind, inputs, compiler, self._recipe.compression, zlib.ZLIB_RUNTIME_VERSION]

    def _run_config(self) -> RunConfig:
        base = self._base.config.config or RunConfig()
        variables = variables_of(self._base)
        path = variables.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = f"/{DEPENDENCIES_PLACE}/bin:" if self._target is not None else ""
        variables |= {"PATH": f"{own}{path}", "HOME": "/tmp", "LANG": variables.get("LANG") or "C.UTF-8"}  # noqa: S108
        if self._template.listens is Listens.PORT:
            variables["PORT"] = "8080"
        variables |= {key: self._filled(value) for key, value in sorted(self._template.env.items())}
        labels = {**(base.labels or {}), **self._recipe.labels, "dev.pinnace.template": self._template.language}
        return RunConfig(
            user=USER,
            exposed_ports={"8080/tcp": {}},
            env=tuple(f"{key}={value}" for key, value in variables.items()),
            cmd=tuple(self._filled(word) for word in self._template.command),
            working_dir=f"/{CODE_PLACE}",
            labels=dict(sorted(labels.items())),
            stop_signal="SIGTERM",
        )

    def _filled(self, text: str) -> str:
        places = {
            "python": f"/{DEPENDENCIES_PLACE}/bin/python",
            "node": self._base.contents.node or "node",
            "runtime": f"/{RUNTIME_PLACE}",
            "dependencies": f"/{DEPENDENCIES_PLACE}",
            "code": f"/{CODE_PLACE}",
        }
        for name, value in places.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _annotations(self) -> dict[str, str]:
        packed = PackedBundle(
            template=self._template.language,
            command=self._template.command,
            env=self._template.env,
            python=self._target.minor if self._target is not None else None,
            listens=self._template.listens,
        )
        told = {key: value for key, value in self._recipe.labels.items() if key.startswith(f"{OCI}.")}
        return told | {BUNDLE_ANNOTATION: msgspec.json.encode(packed, order="deterministic").decode()}

    def _distributions(self) -> list[Distribution]:
        """What the wheels say of themselves. It is remembered: opening 25 wheels takes as long as all of a small rebuild."""

        def read() -> list[Distribution]:
            found = []
            for locked in self._lock.wheels:
                with open_wheel(self._recipe.wheelhouse.path(locked)) as wheel:
                    found.append(wheel.distribution())
            return found

        return self._store.remembered(_distributions_key(self._lock), list[Distribution], read)


def _distributions_key(lock: Lock) -> list[Any]:
    return ["distributions", FORMAT, lock.wheels]
