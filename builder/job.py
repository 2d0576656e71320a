"""What the platform tells a build worker. It stands alone, so that the platform need not import what builds."""

from __future__ import annotations

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do. `context` is the tar's path, `root` the store's, `in_use` digests of bundles to keep."""

    context: str
    root: str
    quota_bytes: int
    templates: str
    offline: bool
    in_use: list[str]
