"""The image of the platform itself, for one platform: one for every role, made by the builder that makes functions' images.

base → packages, exactly those of `deploy/image/requirements.txt` → this very installation of Pinnace → configuration.

Two layers, so that another version of the platform with the same packages is one new layer. The installation is read from
where it runs: a clone and an installed wheel give the same image, unless a file differs.
"""

from __future__ import annotations

import contextlib
import platform as machine
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from builder.assembly import LAYER_ANNOTATION, OCI, USER, Layer, assembled, bill_of, variables_of
from builder.bases import Bases
from builder.context import InvalidContext
from builder.dependencies import PYTHON_VERSION
from builder.image_store import ImageStore
from builder.layers import folder_digest
from builder.oci.archive import Compression, Entry, LayerBlob, write_layer
from builder.oci.documents import INDEX, Descriptor, Index, RunConfig, encode
from builder.packing import DEPENDENCIES_PLACE, tree, venv
from builder.platforms import Platform
from builder.requirements import read_requirements
from builder.templates import TEMPLATES_FOLDER
from builder.wheelhouse import Lock, LockedWheel, Wheelhouse
from builder.wheels import Distribution, open_wheel

FORMAT: Final = 1
DISTRIBUTION: Final = "pinnace"
ROOT: Final = TEMPLATES_FOLDER.parent
LOCK: Final = ROOT / "deploy" / "image"
"""The folder of the `requirements.txt` that says which packages an image gets, with their hashes."""

PACKAGES: Final = ("autoscaler", "builder", "cli", "gateway", "orchestration", "telemetry")
DATA: Final = ("deploy", "runtime-templates")
_PORTS: Final = ("8080/tcp", "8082/tcp")


class OwnImage:
    """Makes the image in `store`. `log` hears each step, and what pip says; `created` (RFC 3339) dates it.

    `base` has to have a Python of 3.11 or newer. Raises InvalidContext for an installation without `lock`.
    """

    def __init__(
        self,
        store: ImageStore,
        log: Callable[[str], None],
        *,
        base: str,
        created: str,
        pull: bool = False,
        offline: bool = False,
        no_cache: bool = False,
        compression: Compression = "gzip",
        lock: Path = LOCK,
    ) -> None:
        self._store = store
        self._log = log
        self._base = base
        self._created = created
        self._pull = pull
        self._offline = offline
        self._no_cache = no_cache
        self._compression = compression
        self._requirements = read_requirements(lock)
        if not self._requirements.names_packages:
            raise InvalidContext(f"this installation of {DISTRIBUTION} has no list of its packages in {lock}: install it anew")
        self._distribution = metadata.distribution(DISTRIBUTION)

    def build(self, name: str, platforms: Sequence[Platform]) -> Descriptor:
        """Build for each of the platforms and give the image its name in the store. Raises exceptions of this package."""
        images, bills = [], []
        for platform in platforms:
            self._log(f"building for {platform} on {self._base}")
            image, bill = self._built(platform)
            images.append(image)
            bills.append(bill)
        built = images[0]
        if len(images) > 1:
            index = Index(schema_version=2, media_type=INDEX, manifests=tuple(images))
            built = self._store.layout.add(encode(index), INDEX)
        self._store.layout.tag(name, built, tuple(bills))
        return built

    def _built(self, platform: Platform) -> tuple[Descriptor, Descriptor]:
        base = Bases(self._store, self._log, offline=self._offline).find(self._base, platform, pull=self._pull)
        target, python = base.contents.target(platform, self._base), base.contents.python
        assert python is not None  # it has a target
        compiles = target.minor == PYTHON_VERSION
        house = self._store.wheelhouse(self._log, offline=self._offline)
        made_for = ("image", str(target), target.python)
        lock = None if self._no_cache else house.remembered(self._requirements, made_for)
        if lock is None or not house.complete(lock):
            self._log(f"fetching packages for {target}")
            lock = house.resolve(self._requirements, made_for, target)
        wheels = [house.path(wheel) for wheel in lock.wheels]

        def packages() -> LayerBlob:
            with contextlib.ExitStack() as stack:
                entries = venv(wheels, python, target.minor, stack, compiles=compiles)
                return write_layer(self._store.layout, entries, self._compression)

        def platform_itself() -> LayerBlob:
            return write_layer(self._store.layout, self._entries(target.minor, compiles), self._compression)

        inputs = [lock.wheels, python, target.minor, platform.architecture]
        layers = (
            self._layer("dependencies", inputs, compiles, packages),
            self._layer("platform", [*self._digests(), target.minor], compiles, platform_itself),
        )
        annotations = {f"{OCI}.title": DISTRIBUTION, f"{OCI}.version": self._distribution.version}
        run = self._run_config(variables_of(base))
        image = assembled(self._store.layout, base, layers, run, platform, annotations, self._created)
        packages_said = list(_said(lock, house))
        return image, bill_of(self._store.layout, image, base, packages_said, self._created, name=DISTRIBUTION)

    def _layer(self, kind: str, inputs: list[Any], compiles: bool, make: Callable[[], LayerBlob]) -> Layer:
        compiler = machine.python_version() if compiles else ""
        key = ["own", FORMAT, kind, inputs, compiler, self._compression, zlib.ZLIB_RUNTIME_VERSION]
        layer, made = self._store.layer(key, make)
        if made:
            self._log(f"{kind} layer {layer.blob.digest}, {layer.blob.size} bytes")
        return layer, msgspec.structs.replace(layer.blob, annotations={LAYER_ANNOTATION: kind})

    def _digests(self) -> list[str]:
        return [*(folder_digest(ROOT / name) for name in (*PACKAGES, *DATA)), *self._metadata().values()]

    def _metadata(self) -> dict[str, str]:
        """What of the distribution's own description is the same wherever it is installed."""
        files = {name: self._distribution.read_text(name) for name in ("METADATA", "entry_points.txt")}
        if missing := [name for name, text in files.items() if not text]:
            raise InvalidContext(f"this installation of {DISTRIBUTION} has no {' and no '.join(missing)}: install it anew")
        return {name: text for name, text in files.items() if text}

    def _entries(self, minor: str, compiles: bool) -> Iterator[Entry]:
        """This installation, at its place among the packages. What only builds read is not compiled."""
        place = f"{DEPENDENCIES_PLACE}/lib/python{minor}/site-packages"
        for name in (*PACKAGES, *DATA):
            yield Entry(f"{place}/{name}")
            own = compiles and name in PACKAGES
            yield from tree(ROOT / name, f"{place}/{name}", compiles=own, must_compile=lambda _: True, log=self._log)
        about = f"{place}/{DISTRIBUTION}-{self._distribution.version}.dist-info"
        for name, text in self._metadata().items():
            yield Entry(f"{about}/{name}", text.encode())
        script = f"#!/{DEPENDENCIES_PLACE}/bin/python\nimport sys\nfrom cli.main import main\nsys.exit(main())\n"
        yield Entry(f"{DEPENDENCIES_PLACE}/bin/faas", script.encode(), executable=True)

    def _run_config(self, variables: dict[str, str]) -> RunConfig:
        path = variables.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = {"PATH": f"/{DEPENDENCIES_PLACE}/bin:{path}", "HOME": "/tmp", "LANG": variables.get("LANG") or "C.UTF-8"}  # noqa: S108
        return RunConfig(
            user=USER,
            exposed_ports={port: {} for port in _PORTS},
            env=tuple(f"{key}={value}" for key, value in (variables | own).items()),
            entrypoint=("faas",),
            cmd=("serve", "--help"),
            working_dir="/tmp",  # noqa: S108
            labels={f"{OCI}.title": DISTRIBUTION, f"{OCI}.version": self._distribution.version},
            stop_signal="SIGTERM",
        )


def _said(lock: Lock, house: Wheelhouse) -> Iterator[tuple[LockedWheel, Distribution]]:
    for locked in lock.wheels:
        with open_wheel(house.path(locked)) as wheel:
            yield locked, wheel.distribution()
