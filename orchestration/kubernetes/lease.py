"""Leader election by a Lease, with client-go's rules, so that its holders and ours would respect each other.

Who holds the Lease renews it every RENEW_EVERY_S. Others see that by its changing, by their own clock: clocks of machines
are never compared. A Lease that has not changed for its duration is taken. A holder that cannot renew stops leading before
others may begin: RENEW_WITHIN_S is shorter than DURATION_S. Who leaves gives it up, so that the next need not wait.

The Lease also says where its holder is reached, and which edges may own slots of limits, for whoever holds it next.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from orchestration.kubernetes.api import LEASES, ApiError, Clash, Exists, Missing
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import CONTROLLER, GROUP, LEASE
from orchestration.kubernetes.resource import Manifest

log = logging.getLogger("pinnace.controller")

DURATION_S: Final = 15.0
RENEW_WITHIN_S: Final = 10.0
RENEW_EVERY_S: Final = 2.0
HUB: Final = f"{GROUP}/hub"
"""Annotation: where edges reach the holder, as HOST:PORT."""
EDGES: Final = f"{GROUP}/edges"
"""Annotation: names of edges, with spaces between."""


class NotWritten(OSError):
    """The Lease could not be written now, or is somebody else's."""


class Leadership:
    """`changed` is told True when this process begins to lead and False when it ceases. `clock` is monotonic.

    `identity` names this process, and no other that there ever was. `notes` are the annotations that the Lease is to have,
    `other` is told when somebody else holds it. When `changed` is told True, `inherited` are the Lease's annotations as they
    were (None: there was no Lease; empty where that is not known), and `was_ours` says whether nobody else held it since this
    process last did.
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
        notes: Callable[[], Mapping[str, str]] = dict,
        other: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leads = False
        self.inherited: Mapping[str, str] | None = None
        self.was_ours = False
        self._notes = notes
        self._other = other
        self._hurry = asyncio.Event()
        self._tries: list[asyncio.Future[None]] = []
        self._cluster = cluster
        self._namespace = namespace
        self.identity = identity
        self._changed = changed
        self._duration_s = duration_s
        self._renew_within_s = renew_within_s
        self._renew_every_s = renew_every_s
        self._clock = clock
        self._seen = ""
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._term: int | None = None
        """The number of the last term (`leaseTransitions`) that this process knew to be its own."""
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
        self._answer(NotWritten("this process ends"), self._tries)
        if self.leads:
            self._lead(False)
            with contextlib.suppress(ApiError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._give_up()

    @property
    def task(self) -> asyncio.Task[None]:
        assert self._task is not None
        return self._task

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return self.leads and self._clock() < self._renewed_at + self._renew_within_s

    async def publish(self) -> None:
        """Write the Lease now; return when it has the present notes. Raises NotWritten."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tries.append(written)
        self._hurry.set()
        await written

    async def _run(self) -> None:
        while True:
            self._hurry.clear()
            tries, self._tries = self._tries, []
            before = self._renewed_at
            failure: OSError | None = None
            try:
                async with asyncio.timeout(self._renew_within_s):
                    held = await self._try()
            except (ApiError, TimeoutError) as error:
                log.warning("the lease cannot be had: %s", error or "no answer")
                failure = NotWritten(f"the lease cannot be written: {error or 'no answer'}")
                held = self.leads and self._clock() < self._renewed_at + self._renew_within_s
            if held and self.leads and self._renewed_at > before + self._renew_within_s:
                self._lead(False)  # this process stood still, and others may have thought that nobody leads
            if held != self.leads:
                self._lead(held)
            if failure is None and not held:
                failure = NotWritten("another process holds the lease")
            self._answer(failure, tries)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._renew_every_s):
                    await self._hurry.wait()

    @staticmethod
    def _answer(failure: OSError | None, tries: list[asyncio.Future[None]]) -> None:
        for written in tries:
            if not written.done():
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

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
                created = await self._cluster.create(LEASES, self._claimed(lease), manager=CONTROLLER)
                self._took(None, created, began)
                return True
            return False
        holder = lease["spec"].get("holderIdentity")
        if lease["metadata"]["resourceVersion"] != self._seen:
            self._seen, self._seen_at = lease["metadata"]["resourceVersion"], self._clock()
        if holder and holder != self.identity and self._clock() < self._seen_at + self._held_for_s(lease):
            self._other()
            return False
        try:
            written = await self._cluster.replace(LEASES, self._claimed(lease), manager=CONTROLLER)
        except Clash:  # another was quicker
            return False
        self._took(lease, written, began)
        return True

    def _took(self, lease: Manifest | None, written: Manifest, began: float) -> None:
        """The Lease was `written` over `lease`.

        It may name this process though that never heard so: the answer to the write by which it took it was lost, and with it
        what the Lease said before.
        """
        self._renewed_at = began
        before, self._term = self._term, written["spec"]["leaseTransitions"]
        if self.leads:
            return
        names_us = lease is not None and lease["spec"].get("holderIdentity") == self.identity
        self.was_ours = names_us and self._term == before
        if lease is None:
            self.inherited = None
        elif names_us and not self.was_ours:
            self.inherited = {}
        else:
            self.inherited = lease["metadata"].get("annotations") or {}

    def _held_for_s(self, lease: Manifest) -> float:
        return float(lease["spec"].get("leaseDurationSeconds") or self._duration_s)

    def _claimed(self, lease: Manifest) -> Manifest:
        spec = lease["spec"]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_new = spec.get("holderIdentity") != self.identity
        claim = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "renewTime": now,
            "acquireTime": now if is_new else spec.get("acquireTime", now),
            "leaseTransitions": spec.get("leaseTransitions", 0) + is_new,
        }
        metadata = lease["metadata"]
        notes = (metadata.get("annotations") or {}) | dict(self._notes())
        return lease | {"metadata": metadata | {"annotations": notes}, "spec": spec | claim}

    async def _give_up(self) -> None:
        lease = await self._cluster.get(LEASES, self._namespace, LEASE)
        if lease["spec"].get("holderIdentity") == self.identity:
            free = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._cluster.replace(LEASES, lease | {"spec": free}, manager=CONTROLLER)

    def _lead(self, leads: bool) -> None:
        self.leads = leads
        log.info("%s %s", self.identity, "leads" if leads else "does not lead any more")
        self._changed(leads)


class Holder(NamedTuple):
    """Who held the Lease at a look that began at `began` (monotonic seconds), and where it is reached (HOST:PORT).

    `leads`: it has written the Lease of late, so that nobody else may.
    """

    began: float
    leads: bool
    identity: str = ""
    address: str = ""


class HolderLook:
    """Looks who holds the Lease, for those who are not candidates."""

    def __init__(self, cluster: Cluster, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._clock = clock
        self._version = ""
        self._changed_at = 0.0
        self._trouble = ""

    async def look(self) -> Holder | None:
        """Return the holder; None where the API server does not say."""
        began = self._clock()
        try:
            lease = await self._cluster.get(LEASES, self._namespace, LEASE)
        except Missing:
            return Holder(began, False)
        except ApiError as error:
            if error.message != self._trouble:
                log.warning("who leads cannot be known: %s", error.message)
            self._trouble = error.message
            return None
        self._trouble = ""
        metadata, spec = lease["metadata"], lease["spec"]
        if metadata["resourceVersion"] != self._version:
            self._version, self._changed_at = metadata["resourceVersion"], self._clock()
        identity = spec.get("holderIdentity") or ""
        held_s = float(spec.get("leaseDurationSeconds") or DURATION_S)
        leads = bool(identity) and began < self._changed_at + held_s
        return Holder(began, leads, identity, (metadata.get("annotations") or {}).get(HUB, ""))
