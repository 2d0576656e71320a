"""One build in a process of its own: `python -m builder.worker FD`, started by `builder.service`.

The job is JSON in an inherited file, whose descriptor is the argument; events go out as lines of JSON on stdout. Stdin
stays open for as long as the platform lives; when it ends, this process ends with everything it started, which shares
its process group.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import msgspec

from builder.bundle_build import BundleBuild
from builder.compiling import BrokenCode
from builder.context import InvalidContext
from builder.events import BuildEvent, Status, one_line
from builder.images import InvalidImageName
from builder.job import Job
from builder.node_dependencies import NodeDependenciesFailed
from builder.requirements import InvalidRequirements
from builder.store import BundleQuotaExceeded, BundleStore
from builder.templates import InvalidTemplate, Templates, UnknownTemplate
from builder.wheelhouse import DependenciesFailed
from orchestration.bundle import UnknownBundle

# Failures whose message is for the user. Anything else is a fault of ours: it ends the process with a traceback.
EXPECTED = (
    BrokenCode, BundleQuotaExceeded, DependenciesFailed, InvalidContext, InvalidImageName, InvalidRequirements,
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
    """Do the build, and write its events to `out`; the last one is a success or a failure."""
    reporter = EventWriter(out)
    store = BundleStore(Path(job.root), job.quota_bytes)
    build = BundleBuild(store, Templates(Path(job.templates)), reporter, offline=job.offline, in_use=frozenset(job.in_use))
    try:
        with open(job.context, "rb") as context:  # noqa: PTH123
            bundle = build.run(context)
    except EXPECTED as error:
        reporter.end("failed", str(error))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reporter.end("failed", "the gateway's disk is full" if full else f"the build could not use the disk: {error}")
    else:
        reporter.log(f"bundle {bundle.digest}")
        reporter.end("success")


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
