"""What the platform tells a build worker. It stands alone, so that the platform need not import what builds."""

from __future__ import annotations

import msgspec


class ImageFailed(RuntimeError):
    """A container image could not be built, pushed or pulled; the message is one line for the user."""


class ImageJob(msgspec.Struct, frozen=True, kw_only=True):
    """Container images: `root` is their store's folder, `registries` where they may be pushed to and pulled from.

    `base` is the base image, empty for the template's own. With `only`, a build makes no bundle.
    """

    root: str
    registries: list[str]
    base: str
    only: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do. `context` is the tar's path, `root` the store's, `in_use` digests of bundles to keep.

    With `pull`, an image's name, there is no context: that image is to become a bundle.
    """

    context: str
    root: str
    quota_bytes: int
    templates: str
    offline: bool
    in_use: list[str]
    images: ImageJob | None = None
    pull: str = ""
