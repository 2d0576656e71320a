"""From a build context to an OCI image in a store, in the order in which it happens.

unpack → template → requirements → for each platform: base, runtime layer, dependency layer, code layer, configuration,
manifest, bill of materials → an index where there are several → the image's name.

The layers are a bundle's, packed: the dependency layer is a virtual environment over the base image's Python, so that the
template's command means the same in both. The order is by how seldom they change, so that a changed handler is one new
layer. Everything that bytes depend on is in the key under which a layer is kept, and nothing else is in the bytes.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform as machine
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from builder.bases import LAYOUT_PREFIXES, Base, Bases
from builder.bundle_build import Reporter, drop_ignored, is_handler_file, sort_context
from builder.compiling import BrokenCode, compiled, compiled_name
from builder.context import BuildConfig
from builder.dependencies import PYTHON_VERSION
from builder.extraction import Limits, extract
from builder.image_store import ImageStore
from builder.images import image_name
from builder.layers import COMPILED, folder_digest
from builder.oci.archive import Compression, Entry, LayerBlob, write_layer
from builder.oci.documents import (
    CONFIG,
    EMPTY,
    INDEX,
    LAYER,
    LAYER_GZIP,
    MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Index,
    Manifest,
    OciPlatform,
    RootFs,
    RunConfig,
    encode,
    sha256,
)
from builder.platforms import Platform, Target, host_platform, parse_platform
from builder.requirements import Requirements, read_requirements
from builder.sbom import CYCLONEDX, cyclonedx
from builder.templates import HANDLER_FOLDER, Template, Templates
from builder.wheelhouse import Lock, LockedWheel, Wheelhouse
from builder.wheels import Distribution, WheelFile, open_wheel
from orchestration.bundle import LayerKind

FORMAT = 1
"""Counts changes of what layers look like: it is in every key, so that no old layer is taken for a new one."""

DEFAULT_BASE = f"docker.io/library/python:{PYTHON_VERSION}-slim"
BASE_VARIABLE = "PINNACE_BASE_IMAGE"
USER = "10001:10001"
"""By number, so that a cluster can see that it is not root."""

RUNTIME_PLACE = "opt/pinnace/runtime"
DEPENDENCIES_PLACE = "opt/pinnace/dependencies"
CODE_PLACE = "home/app"
LAYER_ANNOTATION = "dev.pinnace.layer"
DIGEST_ANNOTATION = "dev.pinnace.digest"
BUNDLE_ANNOTATION = "dev.pinnace.bundle"
_OCI = "org.opencontainers.image"


class PackedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What of a bundle is not in the layers: with it, an image can become a bundle again. On the manifest, as JSON."""

    template: str
    command: tuple[str, ...]
    env: dict[str, str]
    python: str


class ImageBuild:
    """Makes images in `store`. `labels` are added to those of every image; `created_s` (Unix seconds) dates them.

    `base` is the base image's name, None for the default. `pull` asks the registry what it is now. `platforms` replaces
    what the context asks for, where it is not empty.
    """

    def __init__(
        self,
        store: ImageStore,
        templates: Templates,
        reporter: Reporter,
        wheelhouse: Wheelhouse,
        *,
        base: str | None = None,
        pull: bool = False,
        offline: bool = False,
        compression: Compression = "gzip",
        labels: Mapping[str, str] | None = None,
        created_s: int = 0,
        sbom: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._layout = store.layout
        self._templates = templates
        self._reporter = reporter
        self._log = reporter.log
        self._wheelhouse = wheelhouse
        self._base = base or os.environ.get(BASE_VARIABLE) or DEFAULT_BASE
        self._pull = pull
        self._offline = offline
        self._compression = compression
        self._labels = dict(labels or {})
        self._created = datetime.datetime.fromtimestamp(created_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._sbom = sbom
        self._limits = limits

    def run(self, context: IO[bytes]) -> Descriptor:
        """Build the context in the tar `context` and return the image, which has its name in the store's layout.

        Raises an exception of this package, one line for the user.
        """
        with self._store.staging() as folder:
            config = extract(context, folder / "context", self._limits)
            name = image_name(config.image)
            self._reporter.names(name)
            template, function = sort_context(folder / "context", self._templates)
            code = folder / "code"
            code.mkdir()
            function.rename(code / HANDLER_FOLDER)
            drop_ignored(code)
            image, referrers = self.image(template, code, config)
        self._layout.tag(name, image, referrers)
        return image

    def image(self, template: Template, code: Path, config: BuildConfig) -> tuple[Descriptor, tuple[Descriptor, ...]]:
        """Build the image of the function whose folder lies in `code`; return it and what refers to it."""
        platforms = [parse_platform(text) for text in config.platforms] or [host_platform()]
        requirements = read_requirements(code / HANDLER_FOLDER)
        images, referrers = [], []
        for platform in dict.fromkeys(platforms):
            self._log(f"building for {platform} on {self._base}")
            one = _OneImage(self, template, code, requirements, platform, no_cache=config.no_cache)
            image, bill = one.build()
            images.append(image)
            referrers += [bill] if bill is not None else []
        if len(images) == 1:
            return images[0], tuple(referrers)
        index = encode(Index(schema_version=2, media_type=INDEX, manifests=tuple(images)))
        return self._layout.add(index, INDEX), tuple(referrers)


class _OneImage:
    """The image of one function for one platform, step by step."""

    def __init__(
        self,
        build: ImageBuild,
        template: Template,
        code: Path,
        requirements: Requirements,
        platform: Platform,
        *,
        no_cache: bool,
    ) -> None:
        self._build = build
        self._store = build._store
        self._layout = build._layout
        self._log = build._log
        self._template = template
        self._code = code
        self._requirements = requirements
        self._platform = platform
        bases = Bases(self._store, self._log, offline=build._offline)
        self._base: Base = bases.find(build._base, platform, pull=build._pull)
        self._target: Target = self._base.contents.target(platform, build._base)
        self._lock = self._locked(no_cache=no_cache)
        self._compiles = self._target.minor == PYTHON_VERSION
        if not self._compiles:
            self._log(
                f"warning: the base image has Python {self._target.minor} and this builder {PYTHON_VERSION}: "
                "nothing is compiled ahead, and first imports take longer"
            )

    def build(self) -> tuple[Descriptor, Descriptor | None]:
        layers = (self._runtime_layer(), self._dependency_layer(), self._code_layer())
        config = self._layout.add(encode(self._config([layer for layer, _ in layers])), CONFIG)
        manifest = Manifest(
            schema_version=2,
            media_type=MANIFEST,
            config=config,
            layers=(*(_as_oci(layer) for layer in self._base.manifest.layers), *(entry for _, entry in layers)),
            annotations=dict(sorted(self._annotations().items())),
        )
        stored = self._layout.add(encode(manifest), MANIFEST)
        image = Descriptor(
            media_type=stored.media_type,
            digest=stored.digest,
            size=stored.size,
            platform=OciPlatform(architecture=self._platform.architecture, os="linux", variant=self._base.config.variant),
        )
        return image, self._bill(image) if self._build._sbom else None

    def _locked(self, *, no_cache: bool) -> Lock:
        if not self._requirements.names_packages:
            return Lock(())
        house, made_for = self._build._wheelhouse, ("image", str(self._target), self._target.python)
        lock = None if no_cache else house.remembered(self._requirements, made_for)
        if lock is not None and house.complete(lock):
            return lock
        self._log(f"resolving requirements for {self._target}")
        return house.resolve(self._requirements, made_for, self._target)

    def _runtime_layer(self) -> tuple[LayerBlob, Descriptor]:
        folder = self._build._templates.runtime
        digest = folder_digest(folder)

        def make() -> LayerBlob:
            entries = self._tree(folder, RUNTIME_PLACE, must_compile=lambda _: True)
            return write_layer(self._layout, entries, self._build._compression)

        return self._layer(LayerKind.RUNTIME, digest, [digest], make)

    def _code_layer(self) -> tuple[LayerBlob, Descriptor]:
        digest = folder_digest(self._code)

        def make() -> LayerBlob:
            entries = self._tree(self._code, CODE_PLACE, must_compile=is_handler_file)
            return write_layer(self._layout, entries, self._build._compression)

        return self._layer(LayerKind.CODE, digest, [digest], make)

    def _dependency_layer(self) -> tuple[LayerBlob, Descriptor]:
        python = self._base.contents.python
        assert python is not None  # it has a target
        inputs = [self._lock.wheels, python, self._target.minor, self._platform.architecture]
        digest = _digest_of([LayerKind.DEPENDENCIES, *inputs])

        def make() -> LayerBlob:
            with contextlib.ExitStack() as stack:  # the wheels are read while the layer is written
                entries = self._dependency_entries(stack, python)
                return write_layer(self._layout, entries, self._build._compression)

        return self._layer(LayerKind.DEPENDENCIES, digest, inputs, make)

    def _dependency_entries(self, stack: contextlib.ExitStack, python: str) -> Iterator[Entry]:
        files: dict[str, WheelFile] = {}
        for locked in self._lock.wheels:
            wheel = stack.enter_context(open_wheel(self._build._wheelhouse.path(locked)))
            place = f"/{DEPENDENCIES_PLACE}/bin/python"
            files.update((file.path, file) for file in wheel.files(place, self._target.minor))
        yield from _venv(python, self._target)
        for path, file in files.items():
            yield Entry(f"{DEPENDENCIES_PLACE}/{path}", file.read, executable=file.executable)
            if path.endswith(".py") and path.startswith("lib/") and self._compiles:
                shown = path.split("/site-packages/", 1)[-1]
                yield from self._compiled(f"{DEPENDENCIES_PLACE}/{path}", shown, file.read(), must=False)

    def _layer(
        self, kind: LayerKind, digest: str, inputs: list[Any], make: Callable[[], LayerBlob]
    ) -> tuple[LayerBlob, Descriptor]:
        build = self._build
        compiler = machine.python_version() if self._compiles else ""
        key = [FORMAT, kind, inputs, compiler, build._compression, zlib.ZLIB_RUNTIME_VERSION]
        layer, made = self._store.layer(key, make)
        if made:
            self._log(f"{kind} layer {layer.blob.digest}, {layer.blob.size} bytes")
        annotations = {DIGEST_ANNOTATION: digest, LAYER_ANNOTATION: str(kind)}
        return layer, msgspec.structs.replace(layer.blob, annotations=annotations)

    def _tree(self, folder: Path, place: str, must_compile: Callable[[str], bool]) -> Iterator[Entry]:
        """What lies in `folder`, at `place`, with its Python files compiled."""
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name != COMPILED]
            for name in (*folders, *files):
                path = Path(parent, name)
                relative = path.relative_to(folder).as_posix()
                if path.is_symlink():
                    yield Entry(f"{place}/{relative}", target=os.fspath(path.readlink()))
                elif path.is_dir():
                    yield Entry(f"{place}/{relative}")
                else:
                    content = path.read_bytes()
                    yield Entry(f"{place}/{relative}", content, executable=bool(path.stat().st_mode & 0o100))
                    if name.endswith(".py") and self._compiles:
                        yield from self._compiled(f"{place}/{relative}", relative, content, must=must_compile(relative))

    def _compiled(self, path: str, shown: str, source: bytes, *, must: bool) -> Iterator[Entry]:
        folder, _, name = path.rpartition("/")
        try:
            yield Entry(f"{folder}/{COMPILED}/{compiled_name(name)}", compiled(source, shown, self._log if must else _silent))
        except BrokenCode:
            if must:
                raise

    def _config(self, layers: list[LayerBlob]) -> ImageConfig:
        base, ours = self._base.config, self._run_config()
        steps = tuple(
            History(created=self._build._created, created_by=f"pinnace: {kind}")
            for kind in (LayerKind.RUNTIME, LayerKind.DEPENDENCIES, LayerKind.CODE)
        )
        return ImageConfig(
            created=self._build._created,
            architecture=base.architecture,
            os=base.os,
            variant=base.variant,
            config=ours,
            rootfs=RootFs(type="layers", diff_ids=(*base.rootfs.diff_ids, *(layer.diff_id for layer in layers))),
            history=(*(base.history or ()), *steps),
        )

    def _run_config(self) -> RunConfig:
        base = self._base.config.config or RunConfig()
        variables = dict(entry.partition("=")[::2] for entry in base.env or ())
        path = variables.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables |= {"PATH": f"/{DEPENDENCIES_PLACE}/bin:{path}", "HOME": "/tmp", "LANG": variables.get("LANG") or "C.UTF-8"}  # noqa: S108
        variables |= {key: self._filled(value) for key, value in sorted(self._template.env.items())}
        labels = {**(base.labels or {}), **self._build._labels, "dev.pinnace.template": self._template.language}
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
            python=self._target.minor,
        )
        told = {key: value for key, value in self._build._labels.items() if key.startswith(f"{_OCI}.")}
        return told | {
            f"{_OCI}.created": self._build._created,
            **({f"{_OCI}.base.name": self._base_name} if self._base_name else {}),
            f"{_OCI}.base.digest": self._base.image.digest,
            BUNDLE_ANNOTATION: msgspec.json.encode(packed, order="deterministic").decode(),
        }

    @property
    def _base_name(self) -> str:
        """The base image's name, empty for one from a layout: where that lies on this disk is nobody else's concern."""
        return "" if self._base.name.startswith(LAYOUT_PREFIXES) else self._base.name

    def _bill(self, image: Descriptor) -> Descriptor:
        packages: list[tuple[LockedWheel, Distribution]] = []
        for locked in self._lock.wheels:
            with open_wheel(self._build._wheelhouse.path(locked)) as wheel:
                packages.append((locked, wheel.distribution()))
        content = cyclonedx(image, self._base_name or "base", self._base.image.digest, packages, self._build._created)
        annotations = {f"{_OCI}.created": self._build._created}
        manifest = Manifest(
            schema_version=2,
            media_type=MANIFEST,
            artifact_type=CYCLONEDX,
            config=self._layout.add(b"{}", EMPTY),
            layers=(self._layout.add(content, CYCLONEDX),),
            subject=image.bare(),
            annotations=annotations,
        )
        stored = self._layout.add(encode(manifest), MANIFEST)
        return msgspec.structs.replace(stored, artifact_type=CYCLONEDX, annotations=annotations)


def _digest_of(inputs: object) -> str:
    """Return `sha256:HEX` over what a layer is made of."""
    return sha256(msgspec.json.encode(inputs, order="deterministic"))


def _venv(python: str, target: Target) -> Iterator[Entry]:
    """A virtual environment over the interpreter at `python` (PEP 405), as `builder.dependencies.make_venv` makes it."""
    for name in ("python", "python3", f"python{target.minor}"):
        yield Entry(f"{DEPENDENCIES_PLACE}/bin/{name}", target=python)
    yield Entry(f"{DEPENDENCIES_PLACE}/lib64", target="lib")
    yield Entry(f"{DEPENDENCIES_PLACE}/lib/python{target.minor}/site-packages")
    home = python.rpartition("/")[0]
    content = f"home = {home}\ninclude-system-site-packages = false\nversion = {target.minor}\n"
    yield Entry(f"{DEPENDENCIES_PLACE}/pyvenv.cfg", content.encode())


def _as_oci(layer: Descriptor) -> Descriptor:
    """A layer of a base image in Docker's older format, named as OCI names it: the blob is the same."""
    known = {
        "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    }
    return msgspec.structs.replace(layer.bare(), media_type=known.get(layer.media_type, layer.media_type))


def _silent(line: str) -> None:
    """Packages carry files for other Python versions, which are never imported: nobody needs to hear of them."""
