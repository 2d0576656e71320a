"""One build in a process of its own: `python -m builder.worker FD`, started by `builder.service`.

The job is JSON in an inherited file, whose descriptor is the argument; events go out as lines of JSON on stdout. Stdin
stays open for as long as the platform lives; when it ends, this process ends with everything it started, which shares
its process group.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import msgspec

from builder.build_secrets import NO_SECRETS, BuildSecrets, write_secrets
from builder.bundle_build import BundleBuild
from builder.compiling import BrokenCode
from builder.context import InvalidContext
from builder.events import NOT_PUSHED, BuildEvent, Status, one_line
from builder.extraction import read_config
from builder.images import InvalidImageName, image_name
from builder.job import ImageFailed, Job
from builder.keys import BuilderKey
from builder.node_dependencies import NodeDependenciesFailed
from builder.platforms import includes_host
from builder.registry.reference import has_registry, is_allowed
from builder.requirements import InvalidRequirements
from builder.store import BundleQuotaExceeded, BundleStore
from builder.templates import InvalidTemplate, Templates, UnknownTemplate
from builder.wheelhouse import DependenciesFailed
from orchestration.bundle import UnknownBundle

# Failures whose message is for the user. Anything else is a fault of ours: it ends the process with a traceback.
EXPECTED = (
    BrokenCode, BundleQuotaExceeded, DependenciesFailed, ImageFailed, InvalidContext, InvalidImageName, InvalidRequirements,
    InvalidTemplate, NodeDependenciesFailed, UnknownBundle, UnknownTemplate,
)  # fmt: skip
_NICENESS = 10  # calls come before builds


class EventWriter:
    """The build's reporter: writes events as lines of JSON. They carry the image once the context has named it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._image = ""

    def names(self, image: str) -> None:
        self._image = image

    def log(self, line: str) -> None:
        self._write([one_line(line)], "in_progress", "")

    def end(self, status: Status, error: str = "") -> None:
        self._write([], status, one_line(error))

    def _write(self, log: list[str], status: Status, error: str) -> None:
        self._out.write(msgspec.json.encode(BuildEvent(log, one_line(self._image), status, error)) + b"\n")
        self._out.flush()


def run(job: Job, out: BinaryIO) -> None:
    """Do the job, and write its events to `out`; the last one is a success or a failure."""
    reporter = EventWriter(out)
    try:
        if job.pull:
            reporter.names(job.pull)
            _images().pull(job, reporter.log)
        else:
            _build(job, reporter)
    except EXPECTED as error:
        reporter.end("failed", str(error))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reporter.end("failed", "the gateway's disk is full" if full else f"the build could not use the disk: {error}")
    else:
        reporter.end("success")


def _build(job: Job, reporter: EventWriter) -> None:
    """Make a bundle, an image, or both: what the image's name and the configuration ask for."""
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(open(job.context, "rb"))  # noqa: PTH123
        config, sealed = read_config(context)
        image = image_name(config.image)
        reporter.names(image)
        pushes = job.images is not None and not config.skip_push and is_allowed(image, job.images.registries)
        only = job.images is not None and job.images.only
        if job.images is not None and only and not config.skip_push and not pushes:
            raise InvalidContext(_no_place(image, job.images.registries))
        secrets = _opened(sealed, job, stack) if sealed is not None else NO_SECRETS
        for name in secrets.unused:
            reporter.log(f"warning: the build secret {name} means nothing here; see docs/images.md for those that do")
        if not only and (not pushes or includes_host(config.platforms)):
            bundle = BundleBuild(
                BundleStore(Path(job.root), job.quota_bytes),
                Templates(Path(job.templates)),
                reporter,
                offline=job.offline,
                in_use=frozenset(job.in_use),
                secrets=secrets,
            ).run(context)
            reporter.log(f"bundle {bundle.digest}")
            if not pushes and not config.skip_push and has_registry(image):
                reporter.log(f"{NOT_PUSHED}{_no_place(image, job.images.registries if job.images is not None else ())}")
        if pushes or only:
            _images().build(job, context, reporter, secrets, push_as=image if pushes else None)


def _opened(sealed: bytes, job: Job, stack: contextlib.ExitStack) -> BuildSecrets:
    from builder.sealing import unseal  # a native library, for the few who have build secrets

    # Not in the machine's folder for temporary files: a build that is killed leaves them where the store sweeps.
    folder = stack.enter_context(BundleStore(Path(job.root), job.quota_bytes).layers.staging())
    return write_secrets(unseal(sealed, BuilderKey(Path(job.root))), folder)


def _images() -> ModuleType:
    """What makes container images: 50 ms of imports, which a build for this machine need not pay."""
    from builder import image_worker

    return image_worker


def _no_place(image: str, registries: Sequence[str]) -> str:
    there = ", ".join(registries) or "none"
    if not has_registry(image):
        return f"the image name {image} says no registry to push to; this builder pushes to {there}"
    return f"this builder does not push to where {image} says; it pushes to {there} (--registries)"


def main() -> None:
    """Read the job, watch over stdin, build."""
    os.umask(0o022)
    os.nice(_NICENESS)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        job = msgspec.json.decode(file.read(), type=Job)
    threading.Thread(target=_end_with_the_platform, daemon=True).start()
    run(job, sys.stdout.buffer)


def _end_with_the_platform() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
