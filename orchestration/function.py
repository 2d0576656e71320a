"""A function: its newest spec, its revisions, and where its calls go."""

from __future__ import annotations

import msgspec

from orchestration.names import FunctionId
from orchestration.revision import Revision
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget


class Function(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A deployed function as an orchestrator knows it: its newest spec, its revisions and where its calls go.

    `revisions` are oldest first; the last one is the newest deployed, which is not yet in `traffic` while it rolls
    out or when it never became ready. `generation` counts deploys from 1. Times are Unix seconds.
    """

    spec: FunctionSpec
    generation: int
    revisions: tuple[Revision, ...]
    traffic: tuple[TrafficTarget, ...]
    created_at: float
    updated_at: float

    @property
    def id(self) -> FunctionId:
        return self.spec.id

    @property
    def newest(self) -> Revision:
        return self.revisions[-1]

    @property
    def serving(self) -> Revision:
        """The revision that gets the largest share of the calls; the newer one of equals."""
        percent = {t.revision: t.percent for t in self.traffic}
        return max(self.revisions, key=lambda r: (percent.get(r.name, 0), r.number))
