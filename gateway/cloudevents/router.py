"""From an event to the functions that want it: one asynchronous call for each, all kept before anybody is told so.

A call waits in its function's queue like any other, in binary mode. The event's source and id are its idempotency key, for each
function apart: a sender that did not see the answer sends again, and nothing happens twice.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from gateway.asynchronous.calls import Receipt, Submission, queue_of
from gateway.cloudevents.event import Event
from gateway.cloudevents.http_binding import write
from orchestration.events import Event as Change
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.names import FunctionId
from orchestration.settings import InvalidSetting
from orchestration.subscriptions import Filter, subscription

log = logging.getLogger("pinnace.events")

KEY: Final = "\x1fevent:"
"""Idempotency keys that begin so are the platform's: no header can hold that character."""
MOST_CALLS: Final = 10_000
"""From the events of one request."""

Submit = Callable[[Sequence[Submission]], Awaitable[list[Receipt]]]
"""Keeps calls, all of them or none. Raises store.QueueFull, store.StoreUnavailable."""


class TooMany(Exception):
    """The events of one request would make more calls than MOST_CALLS."""


class Delivery(msgspec.Struct, frozen=True, rename="camel"):
    """The event waits in `function`'s queue as the call `callId`; `repeated` where it did so before this request."""

    function: str
    namespace: str
    call_id: str
    repeated: bool


class Counts(msgspec.Struct):
    """Events that came; those of them that nobody wanted; calls that were made of them."""

    accepted: int = 0
    unmatched: int = 0
    delivered: int = 0


class Router:
    """Knows the filters of all functions, which `apply` tells, and submits calls."""

    def __init__(self, submit: Submit) -> None:
        self.counts = Counts()
        self._submit = submit
        self._filters: dict[FunctionId, Filter] = {}

    def apply(self, change: Change) -> None:
        """Take what an orchestrator's `watch` yields."""
        match change:
            case FunctionChanged(function):
                try:
                    wanted = subscription(function.spec)
                except InvalidSetting as error:  # deployed by other means than the API, which refuses it
                    log.warning("%s: %s; it gets no events", function.id, error)
                    wanted = None
                if wanted is None:
                    self._filters.pop(function.id, None)
                else:
                    self._filters[function.id] = wanted
            case FunctionRemoved(namespace, name):
                self._filters.pop(FunctionId(namespace, name), None)

    def wanting(self, event: Event, namespace: str) -> list[FunctionId]:
        """Return the functions of a namespace that want the event, by name."""
        filters = ((function, wanted) for function, wanted in self._filters.items() if function.namespace == namespace)
        return sorted(function for function, wanted in filters if wanted.matches(event.attributes))

    async def accept(
        self, events: Sequence[Event], namespace: str, traced: Sequence[tuple[str, str]] = ()
    ) -> list[list[Delivery]]:
        """Keep all events for all functions that want them, or none for nobody; return who gets each, once it is durable.

        `traced` are headers of the sender's trace, which go along. Raises TooMany, store.QueueFull, store.StoreUnavailable.
        """
        wanted = [self.wanting(event, namespace) for event in events]
        if (calls := sum(map(len, wanted))) > MOST_CALLS:
            raise TooMany(f"these events would make {calls} calls: at most {MOST_CALLS} in one request")
        submissions = [
            Submission(
                queue=queue_of(function),
                function=function,
                headers=(*headers, *traced),
                body=body,
                idempotency_key=KEY + event.key,
            )
            for event, functions in zip(events, wanted, strict=True)
            for headers, body in (write(event),)
            for function in functions
        ]
        receipts = iter(await self._submit(submissions)) if submissions else iter(())
        made = [
            [
                Delivery(function.name, function.namespace, receipt.id, receipt.repeated)
                for function, receipt in zip(functions, receipts, strict=False)
            ]
            for functions in wanted
        ]
        self.counts.accepted += len(events)
        self.counts.unmatched += sum(not functions for functions in wanted)
        self.counts.delivered += sum(not delivery.repeated for deliveries in made for delivery in deliveries)
        return made
