"""From a build context to an OCI image in a store: what is built, for which platforms, under which name.

unpack → template → for each platform its image (`builder.platform_image`) → an index where there are several → the
image's name.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from builder.build_secrets import NO_SECRETS, BuildSecrets
from builder.bundle_build import ADDITIONAL_PACKAGE, Reporter
from builder.context import BuildConfig, InvalidContext
from builder.dependencies import PYTHON_VERSION
from builder.extraction import Limits, extract
from builder.image_store import ImageStore
from builder.images import image_name
from builder.oci.archive import Compression
from builder.oci.documents import INDEX, Descriptor, Index, encode
from builder.platform_image import PlatformImage, Recipe
from builder.platforms import host_platform, parse_platform
from builder.source import arranged
from builder.templates import Template, Templates
from builder.wheelhouse import Wheelhouse

BASE_VARIABLE = "PINNACE_BASE_IMAGE"
BASES = {
    "python": "docker.io/library/python:{python}-slim",
    "node": "docker.io/library/node:22-slim",
    "": "docker.io/library/debian:stable-slim",
}
"""Default bases by what a template's functions need. Python's is this machine's, so that a function gets the same here."""

_PYTHON_ARGUMENTS = ("PYTHON", "PYTHON_VERSION")
"""The build arguments by which Dockerfiles of templates choose Python, ours and OpenFaaS's."""


class ImageBuild:
    """Makes images in `store`. `labels` are added to those of every image; `created_s` (Unix seconds) dates them.

    `base` is the base image's name, empty for the default; `pull` asks its registry what it is now. `secrets` say where
    private packages are. `log` of the `reporter` gets what pip and npm say, too.
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
        secrets: BuildSecrets = NO_SECRETS,
    ) -> None:
        self._store = store
        self._layout = store.layout
        self._templates = templates
        self._reporter = reporter
        self._log = reporter.log
        self._base = base or os.environ.get(BASE_VARIABLE) or ""
        self._limits = limits
        self._recipe = Recipe(
            store=store,
            templates=templates,
            wheelhouse=wheelhouse,
            log=reporter.log,
            pull=pull,
            offline=offline,
            compression=compression,
            labels=dict(labels or {}),
            created=rfc3339(created_s),
            sbom=sbom,
            secrets=secrets,
        )

    def run(self, context: IO[bytes]) -> Descriptor:
        """Build the context in the tar `context` and return the image, which has its name in the store's layout.

        Raises an exception of this package, one line for the user.
        """
        with self._store.staging() as folder:
            config = extract(context, folder / "context", self._limits)
            name = image_name(config.image)
            self._reporter.names(name)
            template, code = arranged(folder, self._templates)
            image, referrers = self.image(template, code, config)
        self._layout.tag(name, image, referrers)
        return image

    def image(self, template: Template, code: Path, config: BuildConfig) -> tuple[Descriptor, tuple[Descriptor, ...]]:
        """Build the image of the function whose folder lies in `code`; return it and what refers to it."""
        platforms = [parse_platform(text) for text in config.platforms] or [host_platform()]
        base = self._base or BASES[template.dependencies].format(python=_python_of(template, config))
        self._mention_unused(config)
        images, referrers = [], []
        for platform in dict.fromkeys(platforms):
            self._log(f"building for {platform} on {base}")
            one = PlatformImage(self._recipe, template, code, base, platform, no_cache=config.no_cache)
            image, bill = one.build()
            images.append(image)
            referrers += [bill] if bill is not None else []
        if len(images) == 1:
            return images[0], tuple(referrers)
        index = encode(Index(schema_version=2, media_type=INDEX, manifests=tuple(images)))
        return self._layout.add(index, INDEX), tuple(referrers)

    def _mention_unused(self, config: BuildConfig) -> None:
        for name, value in sorted(config.build_args.items()):
            if name == ADDITIONAL_PACKAGE and value.strip():
                self._log(f"warning: system packages are not installed: use a base image that has them, with {value.strip()}")
            elif name not in (ADDITIONAL_PACKAGE, *_PYTHON_ARGUMENTS):
                self._log(f"warning: build argument {name} has no effect here")


def own_base() -> str:
    """Return the default base of an image whose Python is this machine's."""
    return os.environ.get(BASE_VARIABLE) or BASES["python"].format(python=PYTHON_VERSION)


def rfc3339(time_s: int) -> str:
    """Return a Unix time as documents have it."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _python_of(template: Template, config: BuildConfig) -> str:
    """The Python version of the default base: a build argument's, the template's, this machine's."""
    asked = next((config.build_args[name] for name in _PYTHON_ARGUMENTS if config.build_args.get(name)), "")
    if asked and not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", asked):
        raise InvalidContext(f"the build argument for Python is {asked[:40]!r}; write a version such as 3.13")
    return asked or template.python or PYTHON_VERSION
