"""What functions exist and how their asynchronous calls are carried out, as an orchestrator's events tell."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from gateway.asynchronous.calls import queue_of
from gateway.asynchronous.store import Bounds
from orchestration.events import Event, FunctionChanged, FunctionRemoved
from orchestration.names import FunctionId
from orchestration.queueing import QueueSettings, queue_settings
from orchestration.settings import InvalidSetting

log = logging.getLogger("pinnace.async")

_UNKNOWN = QueueSettings()


class Functions:
    """Settings by function and by queue. Those of a function that is not known (any more) are the defaults: what waits for it
    is tried, and fails. `besides` are those of queues of other kinds, by what stands behind the `#` in their names."""

    def __init__(self, besides: Mapping[str, QueueSettings] = MappingProxyType({})) -> None:
        self._settings: dict[str, QueueSettings] = {}
        self._besides = besides

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        match event:
            case FunctionChanged(function):
                try:
                    self._settings[queue_of(function.id)] = queue_settings(function.spec)
                except InvalidSetting as error:  # deployed by other means than the API, which refuses it
                    log.warning("%s: %s; its asynchronous calls have the default settings", function.id, error)
                    self._settings[queue_of(function.id)] = _UNKNOWN
            case FunctionRemoved(namespace, name):
                self._settings.pop(queue_of(FunctionId(namespace, name)), None)
            case _:
                pass

    def knows(self, function: FunctionId) -> bool:
        """Whether the function exists."""
        return self.has(queue_of(function))

    def has(self, queue: str) -> bool:
        """Whether the function exists whose calls wait in `queue`."""
        return queue in self._settings

    def bounds(self, queue: str, most: Bounds) -> Bounds:
        """Return what may wait in `queue`: what its function says, else `most`."""
        return Bounds(self.of(queue).calls or most.calls, most.bytes)

    def of(self, queue: str) -> QueueSettings:
        """Return the settings of the function whose calls wait in `queue`."""
        kind = queue.partition("#")[2]
        return self._besides.get(kind, _UNKNOWN) if kind else self._settings.get(queue, _UNKNOWN)
