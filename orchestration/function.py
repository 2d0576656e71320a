"""A function: its newest spec, its revisions, and where its calls go."""

from __future__ import annotations

import msgspec

from orchestration.gradual import GradualRollout
from orchestration.names import FunctionId
from orchestration.revision import Revision
from orchestration.spec import FunctionSpec
from orchestration.traffic import FOLLOWING, TrafficTarget, share_of


class Function(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A deployed function as an orchestrator knows it: its newest spec, its revisions and where its calls go.

    `revisions` are oldest first; the last one is the newest deployed, which is not yet in `traffic` while it rolls
    out or when it never became ready. `split` is the table that was asked for, `latest` the revision that `@latest` stands for
    in it, `gradual` how far calls have moved from that one to the newest (None: nothing moves), `traffic` what it all comes to.
    `generation` counts deploys from 1. `pinned` is the count of replicas that all its calls have, where somebody fixed it
    (None: it is scaled). Times are Unix seconds.
    """

    spec: FunctionSpec
    generation: int
    revisions: tuple[Revision, ...]
    traffic: tuple[TrafficTarget, ...]
    created_at: float
    updated_at: float
    split: tuple[TrafficTarget, ...] = FOLLOWING
    latest: str = ""
    gradual: GradualRollout | None = None
    pinned: int | None = None

    @property
    def id(self) -> FunctionId:
        return self.spec.id

    @property
    def newest(self) -> Revision:
        return self.revisions[-1]

    @property
    def serving(self) -> Revision:
        """The revision that gets the largest share of the calls; the newer one of equals."""
        return max(self.revisions, key=lambda r: (share_of(self.traffic, r.name), r.number))

    @property
    def latest_ready(self) -> str:
        """The name of the newest revision that became ready, and did not do worse than the one before it."""
        return self.latest or self.serving.name

    @property
    def rolling(self) -> bool:
        """Whether the newest revision has not become ready yet. Whether it ever will, who runs it knows."""
        return self.gradual is None and self.newest.name != self.latest_ready

    def routes_to(self, revision: str) -> bool:
        """Whether calls can come to a revision: by its share or by a tag."""
        return any(target.revision == revision for target in self.traffic)
