"""Container images on this machine: functions become images in the client's own store, and go to registries from there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from builder.build_secrets import NO_SECRETS, write_secrets
from builder.image_build import ImageBuild, own_base, rfc3339
from builder.image_store import ImageStore, default_folder
from builder.image_worker import told as telling
from builder.images import image_name
from builder.job import ImageFailed
from builder.oci.archive import Compression
from builder.oci.documents import Descriptor
from builder.oci.exchange import read_image, write_archive, write_folder
from builder.platforms import host_platform, parse_platform
from builder.templates import PROJECT_FOLDER, Template, Templates
from builder.worker import EXPECTED
from cli.build import BuildFailed, config_of, pack, secrets_of
from cli.errors import CliError, Misuse
from cli.image_flags import ImageFlags
from cli.image_tags import revision
from cli.stack import StackFunction

REVISION_LABEL = "org.opencontainers.image.revision"
if TYPE_CHECKING:
    from builder.registry.transfer import Pushed

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True)
class Built:
    """An image in the store, by its name."""

    name: str
    image: Descriptor


class _Log:
    """Keeps what a build says, for when it fails, and passes it on."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self.lines: list[str] = []
        self._told = told

    def names(self, image: str) -> None:
        return None

    def log(self, line: str) -> None:
        self.lines.append(line)
        self._told(line)


def open_store() -> ImageStore:
    """Return the client's own store of images."""
    root = default_folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ImageStore(root)


def build_image(
    store: ImageStore,
    function: StackFunction,
    template: Template,
    copies: tuple[str, ...],
    flags: ImageFlags,
    told: Callable[[str], None],
) -> Built:
    """Build the function's image into the store; `told` gets each line of the build. Raises Misuse and BuildFailed."""
    assert function.handler is not None
    config = config_of(function, no_cache=flags.no_cache)
    for name in config.platforms:
        _check_platform(name)
    commit = revision(function.handler)
    labels = {**({REVISION_LABEL: commit} if commit else {}), **flags.labels}
    log = _Log(told)
    with contextlib.ExitStack() as stack, _failing(function, log):
        secrets = NO_SECRETS
        if function.build_secrets:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="build-secrets-")))
            secrets = write_secrets(secrets_of(function), folder)
            for name in secrets.unused:
                log.log(f"warning: the build secret {name} means nothing here; see docs/images.md for those that do")
        build = ImageBuild(
            store,
            Templates(project=PROJECT_FOLDER),
            log,
            store.wheelhouse(log.log, offline=flags.offline, secrets=secrets),
            base=flags.base_image,
            pull=flags.pull,
            offline=flags.offline,
            compression=cast(Compression, flags.compression),
            labels=labels,
            created_s=_source_date(),
            sbom=flags.sbom,
            secrets=secrets,
        )
        tar = stack.enter_context(tempfile.TemporaryFile())
        pack(tar, function, template, copies, config)
        return Built(config.image, build.run(tar))


def build_own(
    store: ImageStore, name: str, platforms: tuple[str, ...], told: Callable[[str], None], *, base: str, **options: Any
) -> Built:
    """Build the platform's own image into the store; `options` are `OwnImage`'s. Raises Misuse and CliError."""
    from builder.own_image import OwnImage

    for platform in platforms:
        _check_platform(platform)
    log = _Log(told)
    try:
        with telling():
            name = image_name(name)
            built = OwnImage(store, log.log, base=base or own_base(), created=rfc3339(_source_date()), **options)
            return Built(name, built.build(name, [parse_platform(p) for p in platforms] or [host_platform()]))
    except EXPECTED as error:
        raise CliError(f"not built: {error}") from None


def push_image(store: ImageStore, name: str, told: Callable[[str], None], tags: tuple[str, ...] = ()) -> Pushed:
    """Push the image of that name from the store. Raises CliError when it is not there or does not go."""
    from builder.pushing import push

    image = store.layout.find(name)
    if image is None:
        raise CliError(f"there is no image {name} on this machine: build it first (faas build)")
    try:
        with telling():
            return push(store, image, name, told, tags)
    except ImageFailed as error:
        raise CliError(f"{name}: not pushed: {error}") from None


def import_images(store: ImageStore, source: Path, names: tuple[str, ...]) -> tuple[Built, ...]:
    """Take images from a layout elsewhere (a folder or a tar file) into the store. Raises CliError."""
    try:
        with telling():
            built = []
            for name in names:
                image = read_image(source, name, store.layout)
                store.layout.tag(name, image)
                built.append(Built(name, image))
            return tuple(built)
    except ImageFailed as error:
        raise CliError(str(error)) from None


def write_output(store: ImageStore, images: tuple[Built, ...], kind: str, place: Path, *, sbom: bool) -> None:
    """Write the images to the layout in the folder `place`, or as one to the tar file `place`. Raises CliError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    write = write_archive if kind == "tar" else write_folder
    try:
        with telling():
            write(store.layout, {built.name: built.image for built in images}, place, referrers=sbom)
    except ImageFailed as error:
        raise CliError(str(error)) from None


@contextlib.contextmanager
def _failing(function: StackFunction, log: _Log) -> Iterator[None]:
    try:
        with telling():
            yield
    except EXPECTED as error:
        raise BuildFailed(f"{function.name}: not built: {error}", log.lines) from None


def _check_platform(name: str) -> None:
    try:
        parse_platform(name)
    except ValueError as error:
        raise Misuse(f"--platforms: {error}") from None


def _source_date() -> int:
    """Return the Unix second that images are dated with (reproducible-builds.org, SOURCE_DATE_EPOCH). Raises Misuse."""
    text = os.environ.get(EPOCH_VARIABLE, "").strip() or "0"
    if not text.isascii() or not text.isdigit() or int(text) > 253402300799:
        raise Misuse(f"{EPOCH_VARIABLE}={text[:40]!r}: a whole number of seconds since 1970")
    return int(text)
