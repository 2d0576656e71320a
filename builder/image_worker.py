"""The part of a build worker that makes, pushes and pulls container images; what goes wrong is an ImageFailed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from builder.bases import BaseUnavailable
from builder.build_secrets import BuildSecrets
from builder.bundle_build import Reporter
from builder.image_build import ImageBuild
from builder.image_store import ImageStore
from builder.job import ImageFailed, Job
from builder.oci.archive import ZstdMissing
from builder.oci.documents import InvalidImage
from builder.registry.errors import RegistryError
from builder.store import BundleStore
from builder.templates import Templates
from builder.wheels import InvalidWheel

FAILURES = (BaseUnavailable, InvalidImage, InvalidWheel, RegistryError, ZstdMissing)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Failures whose message is for the user become ImageFailed."""
    try:
        yield
    except FAILURES as error:
        raise ImageFailed(str(error)) from None


def build(job: Job, context: IO[bytes], reporter: Reporter, secrets: BuildSecrets, *, push_as: str | None) -> None:
    """Build the image of the context in the store, and push it under the name `push_as`, where that is given."""
    assert job.images is not None
    store = ImageStore(Path(job.images.root))
    with told():
        built = ImageBuild(
            store,
            Templates(Path(job.templates)),
            reporter,
            store.wheelhouse(reporter.log, offline=job.offline, secrets=secrets),
            base=job.images.base,
            offline=job.offline,
            secrets=secrets,
        ).run(context)
        reporter.log(f"image {built.digest}")
        if push_as is None:
            return
        from builder.pushing import push

        try:
            push(store, built, push_as, reporter.log)
        finally:  # the registry keeps it; here its layers stay for a while, for the next build
            store.layout.untag(push_as)


def pull(job: Job, log: Callable[[str], None]) -> None:
    """Make a bundle of the image `job.pull` in its registry."""
    from builder.bundle_pull import BundlePull

    assert job.images is not None
    store = BundleStore(Path(job.root), job.quota_bytes)
    with told():
        bundle = BundlePull(store, ImageStore(Path(job.images.root)), log, in_use=frozenset(job.in_use)).run(job.pull)
    log(f"bundle {bundle.digest}")
