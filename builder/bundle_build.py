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
from pathlib import Path
from typing import IO, Protocol

import msgspec

from builder.build_secrets import NO_SECRETS, BuildSecrets
from builder.compiling import compile_folder
from builder.context import BuildConfig
from builder.dependencies import PYTHON_VERSION, Dependencies
from builder.disk import tree_size_bytes
from builder.extraction import Limits, extract
from builder.images import image_name
from builder.layers import folder_digest
from builder.node_dependencies import NodeDependencies
from builder.platforms import check_includes_host
from builder.source import arranged, is_handler_file, python_requirements
from builder.store import BundleStore
from builder.templates import HANDLER_FOLDER, Template, Templates
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
        secrets: BuildSecrets = NO_SECRETS,
    ) -> None:
        self._store = store
        self._templates = templates
        self._reporter = reporter
        self._log = reporter.log
        self._offline = offline
        self._in_use = in_use
        self._limits = limits
        self._secrets = secrets

    def run(self, context: IO[bytes]) -> Bundle:
        """Build and publish the context in the tar `context`. Raises an exception of this package, one line for the user."""
        with self._store.layers.staging() as folder:
            config = extract(context, folder / "context", self._limits)
            check_includes_host(config.platforms)
            image = image_name(config.image)
            self._reporter.names(image)
            template, code = arranged(folder, self._templates)
            for_python = f" for Python {PYTHON_VERSION}" if template.dependencies == "python" else ""
            self._log(f"building {image} with template {template.language}{for_python}")
            self._mention_unused(config, template)
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
            packages = NodeDependencies(
                self._store, self._log, offline=self._offline, in_use=self._in_use, secrets=self._secrets
            )
            return packages.layer(function, no_cache=no_cache)
        if template.dependencies == "python":
            dependencies = Dependencies(
                self._store, self._log, offline=self._offline, in_use=self._in_use, secrets=self._secrets
            )
            return dependencies.layer(python_requirements(code, template), no_cache=no_cache)
        return None

    def _code(self, code: Path, template: Template) -> Layer:
        digest = folder_digest(code)
        if layer := self._store.layers.find(digest):
            return layer
        if template.dependencies == "python":
            compile_folder(code, self._log, is_handler_file)
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
