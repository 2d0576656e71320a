"""What builds, as the settings have it: the bundles of the data folder, and the builder that fills them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from builder.service import Builder
from builder.store import BundleStore
from cli.process import CannotServe
from cli.settings import ServeSettings
from telemetry.span_sink import SpanSink


def bundle_store(settings: ServeSettings) -> BundleStore:
    """Return the bundles of the data folder, which is made. Raises CannotServe."""
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        return BundleStore(folder, settings.bundle_quota_bytes)
    except OSError as error:
        raise CannotServe(f"the data folder {folder} cannot be used: {error.strerror}") from None


def builder_of(
    settings: ServeSettings,
    bundles: BundleStore,
    sink: SpanSink | None = None,
    *,
    images_only: bool,
    in_use: Callable[[], Collection[str]] = frozenset,
) -> Builder:
    """Return the builder, which hands its spans to `sink`. `in_use` gives the digests of bundles that stay; with
    `images_only` none are made."""
    return Builder(
        bundles,
        in_use=in_use,
        offline=settings.offline,
        time_limit_s=settings.build_time_limit_s,
        registries=settings.registries,
        base_image=settings.base_image,
        images_only=images_only,
        on_span=sink.add if sink is not None else None,
    )
