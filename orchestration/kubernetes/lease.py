"""Leader election by a Lease, with client-go's rules, so that its holders and ours would respect each other.

Who holds the Lease renews it every RENEW_EVERY_S. Others see that by its changing, by their own clock: clocks of machines
are never compared. A Lease that has not changed for its duration is taken. A holder that cannot renew stops leading before
others may begin: RENEW_WITHIN_S is shorter than DURATION_S. Who leaves gives it up, so that the next need not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from orchestration.kubernetes.api import LEASES, ApiError, Clash, Exists, Missing
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import CONTROLLER, LEASE
from orchestration.kubernetes.resource import Manifest

log = logging.getLogger("pinnace.controller")

DURATION_S: Final = 15.0
RENEW_WITHIN_S: Final = 10.0
RENEW_EVERY_S: Final = 2.0


class Leadership:
    """`changed` is told True when this process begins to lead and False when it ceases. `clock` is monotonic.

    `identity` names this process, and no other that there ever was.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        identity: str,
        changed: Callable[[bool], None],
        *,
        duration_s: float = DURATION_S,
        renew_within_s: float = RENEW_WITHIN_S,
        renew_every_s: float = RENEW_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leads = False
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._changed = changed
        self._duration_s = duration_s
        self._renew_within_s = renew_within_s
        self._renew_every_s = renew_every_s
        self._clock = clock
        self._seen = ""
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.leads:
            self._lead(False)
            with contextlib.suppress(ApiError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._give_up()

    @property
    def task(self) -> asyncio.Task[None]:
        assert self._task is not None
        return self._task

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._renew_within_s):
                    held = await self._try()
            except (ApiError, TimeoutError) as error:
                log.warning("the lease cannot be had: %s", error or "no answer")
                held = self.leads and self._clock() < self._renewed_at + self._renew_within_s
            if held != self.leads:
                self._lead(held)
            await asyncio.sleep(self._renew_every_s)

    async def _try(self) -> bool:
        """Take or renew the lease; return whether this process holds it now."""
        began = self._clock()
        try:
            lease = await self._cluster.get(LEASES, self._namespace, LEASE)
        except Missing:
            lease = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.name,
                "metadata": {"name": LEASE, "namespace": self._namespace},
                "spec": {},
            }
            with contextlib.suppress(Exists):
                await self._cluster.create(LEASES, self._claimed(lease), manager=CONTROLLER)
                self._renewed_at = began
                return True
            return False
        holder = lease["spec"].get("holderIdentity")
        if lease["metadata"]["resourceVersion"] != self._seen:
            self._seen, self._seen_at = lease["metadata"]["resourceVersion"], self._clock()
        if holder and holder != self._identity and self._clock() < self._seen_at + self._held_for_s(lease):
            return False
        try:
            await self._cluster.replace(LEASES, self._claimed(lease), manager=CONTROLLER)
        except Clash:  # another was quicker
            return False
        self._renewed_at = began
        return True

    def _held_for_s(self, lease: Manifest) -> float:
        return float(lease["spec"].get("leaseDurationSeconds") or self._duration_s)

    def _claimed(self, lease: Manifest) -> Manifest:
        spec = lease["spec"]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_new = spec.get("holderIdentity") != self._identity
        claim = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "renewTime": now,
            "acquireTime": now if is_new else spec.get("acquireTime", now),
            "leaseTransitions": spec.get("leaseTransitions", 0) + is_new,
        }
        return lease | {"spec": spec | claim}

    async def _give_up(self) -> None:
        lease = await self._cluster.get(LEASES, self._namespace, LEASE)
        if lease["spec"].get("holderIdentity") == self._identity:
            free = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._cluster.replace(LEASES, lease | {"spec": free}, manager=CONTROLLER)

    def _lead(self, leads: bool) -> None:
        self.leads = leads
        log.info("%s %s", self._identity, "leads" if leads else "does not lead any more")
        self._changed(leads)
