"""From a build context to a published bundle, in the order in which it happens.

unpack → find the template → read the requirements → dependency layer → runtime layer → code layer → publish.

The code layer is the function's folder alone, as `function/`: a context that OpenFaaS's client made also carries that
template's Dockerfile, server and requirements, whose place our runtime takes. Only a template that has a `command`, and so
is made for this, is taken from the context, with all its files. The same context gives the same digests.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

import msgspec

from builder.compiling import compile_folder
from builder.context import BuildConfig, InvalidContext
from builder.dependencies import PYTHON_VERSION, Dependencies
from builder.disk import tree_size_bytes
from builder.extraction import Limits, extract
from builder.ignore import always_ignored
from builder.images import image_name
from builder.layers import folder_digest
from builder.node_dependencies import NodeDependencies
from builder.requirements import read_requirements
from builder.store import BundleStore
from builder.templates import HANDLER_FOLDER, TEMPLATE_FILE, Template, Templates, read_template_file, template_of
from orchestration.bundle import Bundle, Layer, LayerKind

ADDITIONAL_PACKAGE = "ADDITIONAL_PACKAGE"  # the build argument in which OpenFaaS passes system packages


class Reporter(Protocol):
    """Who hears of a build while it runs."""

    def names(self, image: str) -> None:
        """The context was read: this is the image name that it builds."""

    def log(self, line: str) -> None:
        """A line for people."""


class BundleBuild:
    """One build. `in_use` are the digests of bundles that may not be removed to make room."""

    def __init__(
        self,
        store: BundleStore,
        templates: Templates,
        reporter: Reporter,
        *,
        offline: bool = False,
        in_use: Collection[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._templates = templates
        self._reporter = reporter
        self._log = reporter.log
        self._offline = offline
        self._in_use = in_use
        self._limits = limits

    def run(self, context: IO[bytes]) -> Bundle:
        """Build and publish the context in the tar `context`. Raises an exception of this package, one line for the user."""
        with self._store.layers.staging() as folder:
            config = extract(context, folder / "context", self._limits)
            image = image_name(config.image)
            self._reporter.names(image)
            template, function = self._sort(folder / "context")
            for_python = f" for Python {PYTHON_VERSION}" if template.dependencies == "python" else ""
            self._log(f"building {image} with template {template.language}{for_python}")
            self._mention_unused(config, template)
            code = folder / "code"
            code.mkdir()
            function.rename(code / HANDLER_FOLDER)
            if not template.built_in:
                _add_template(folder / "context", code)
            _drop_ignored(code)
            layers = tuple(
                layer
                for layer in (
                    self._runtime(folder, template),
                    self._dependencies(code, template, no_cache=config.no_cache),
                    self._code(code, template),
                )
                if layer is not None
            )
        bundle = make_bundle(template, layers, time.time())
        self._store.publish(image, bundle)
        return bundle

    def _sort(self, context: Path) -> tuple[Template, Path]:
        """Return the template that the context asks for, and where the function's folder is in it."""
        if not (context / TEMPLATE_FILE).is_file():
            hint = " (lang: dockerfile cannot be built here)" if (context / "Dockerfile").exists() else ""
            raise InvalidContext(f"the build context has no {TEMPLATE_FILE}, which names the language{hint}")
        said = read_template_file(context / TEMPLATE_FILE)
        language = str(said.get("language") or "")
        if said.get("command"):
            template = template_of(said, context, language, built_in=False)
        else:
            template = self._templates.find_runnable(language)
        handler = PurePosixPath(str(said.get("handler_folder") or HANDLER_FOLDER))
        function = context / handler
        if ".." in handler.parts or handler.is_absolute() or function.is_symlink() or not function.is_dir():
            raise InvalidContext(f"the build context has no folder {str(handler)!r}")
        return template, function

    def _mention_unused(self, config: BuildConfig, template: Template) -> None:
        if template.python and template.python != PYTHON_VERSION:
            self._log(
                f"warning: template {template.language} is made for Python {template.python}, and functions here run with "
                f"this machine's {PYTHON_VERSION}"
            )
        for name, value in sorted(config.build_args.items()):
            if name == ADDITIONAL_PACKAGE and value.strip():
                self._log(f"warning: system packages are not installed on this machine by a build: {value.strip()}")
            elif name != ADDITIONAL_PACKAGE:
                self._log(f"warning: build argument {name} has no effect here")

    def _runtime(self, folder: Path, template: Template) -> Layer | None:
        runtime = self._templates.runtime(template)
        if runtime is None:
            return None
        digest = folder_digest(runtime)
        if layer := self._store.layers.find(digest):
            return layer
        staged = folder / "runtime"
        shutil.copytree(runtime, staged, ignore=shutil.ignore_patterns("__pycache__"))
        compile_folder(staged, self._log, lambda _: True)
        return self._store.layers.adopt(LayerKind.RUNTIME, folder_digest(staged), staged)

    def _dependencies(self, code: Path, template: Template, *, no_cache: bool) -> Layer | None:
        function = code / HANDLER_FOLDER
        if template.dependencies == "node":
            packages = NodeDependencies(self._store, self._log, offline=self._offline, in_use=self._in_use)
            return packages.layer(function, no_cache=no_cache)
        if template.dependencies == "python":
            requirements = read_requirements(function)
            if not template.built_in:
                requirements = read_requirements(code) + requirements
            dependencies = Dependencies(self._store, self._log, offline=self._offline, in_use=self._in_use)
            return dependencies.layer(requirements, no_cache=no_cache)
        return None

    def _code(self, code: Path, template: Template) -> Layer:
        digest = folder_digest(code)
        if layer := self._store.layers.find(digest):
            return layer
        if template.dependencies == "python":
            compile_folder(code, self._log, _is_handler_file)
        self._store.make_room(tree_size_bytes(code), self._in_use, time.time())
        return self._store.layers.adopt(LayerKind.CODE, digest, code)


def make_bundle(template: Template, layers: tuple[Layer, ...], now: float) -> Bundle:
    """Return the bundle of these layers. Its digest covers everything but the time (Unix seconds)."""
    env = dict(sorted(template.env.items()))
    python = PYTHON_VERSION if template.dependencies == "python" else None
    of_layers = [(layer.kind, layer.digest) for layer in layers]
    content = [template.language, template.command, env, python, template.listens, of_layers]
    return Bundle(
        digest=f"sha256:{hashlib.sha256(msgspec.json.encode(content)).hexdigest()}",
        template=template.language,
        command=template.command,
        env=env,
        python=python,
        layers=layers,
        created_at=now,
        listens=template.listens,
    )


def _is_handler_file(relative: str) -> bool:
    """Whether the file lies directly in the function's folder, where the handler and its modules are."""
    return PurePosixPath(relative).parent == PurePosixPath(HANDLER_FOLDER)


def _add_template(context: Path, code: Path) -> None:
    """Move the template's own files into the code, beside `function/`."""
    for path in sorted(context.iterdir()):
        if path.name not in (TEMPLATE_FILE, "Dockerfile", HANDLER_FOLDER):
            path.rename(code / path.name)


def _drop_ignored(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if always_ignored(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
