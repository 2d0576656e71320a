"""Metrics that nobody pushes: CPU and memory from the orchestrator, metrics of one's own from a Prometheus.

Each function with such a metric is measured every five seconds while it has replicas (a metric of one's own also at zero,
as it may wake the function). What cannot be measured is told as trouble: the decider then keeps the count, and the
explanation says why.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import urllib.error
import urllib.parse
import urllib.request
from types import TracebackType
from typing import Any, Final, Protocol, Self

from autoscaler.scaler import Scaler
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.scaling import Metric, ScaleSettings

log = logging.getLogger("pinnace.autoscaler")

EVERY_S: Final = 5.0
ANSWER_WITHIN_S: Final = 4.0
AT_A_TIME: Final = 8
LARGEST_ANSWER_BYTES: Final = 1024 * 1024
MEASURED: Final = frozenset((Metric.CPU, Metric.MEMORY, Metric.CUSTOM))


class Unmeasurable(Exception):
    """The metric cannot be known now; the message is one line that says why."""


class Queries(Protocol):
    """Whoever answers PromQL."""

    async def ask(self, query: str) -> float:
        """Return the query's value now, summed over its series. Raises Unmeasurable."""


class Prometheus:
    """The HTTP API of a Prometheus at `url` (Prometheus documentation, "HTTP API", instant queries)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def ask(self, query: str) -> float:
        """Return the query's value now, summed over its series. Raises Unmeasurable."""
        return await asyncio.to_thread(self._ask, query)

    def _ask(self, query: str) -> float:
        request = urllib.request.Request(  # noqa: S310  # the operator's own address; its scheme is checked with the settings
            f"{self._url}/api/v1/query",
            data=urllib.parse.urlencode({"query": query, "timeout": f"{ANSWER_WITHIN_S:g}s"}).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as response:  # noqa: S310
                answer = json.loads(response.read(LARGEST_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise Unmeasurable(f"Prometheus answers {error.code}: {_error_of(error.read(4096))}") from None
        except (OSError, ValueError) as error:
            raise Unmeasurable(f"Prometheus at {self._url} does not answer: {error}") from None
        return value_of(answer)


class NoPrometheus:
    """Nobody answers PromQL here."""

    async def ask(self, query: str) -> float:
        """Raises Unmeasurable."""
        raise Unmeasurable("no Prometheus is known here: faas serve --prometheus-url")


def value_of(answer: Any) -> float:
    """Return what an instant query's answer comes to: a scalar, or the sum of a vector. Raises Unmeasurable."""
    try:
        data = answer["data"]
        match data["resultType"]:
            case "scalar":
                values = [float(data["result"][1])]
            case "vector":
                values = [float(series["value"][1]) for series in data["result"]]
            case other:
                raise Unmeasurable(f"the query gives a {other}; an instant vector or a scalar is needed")
    except (LookupError, TypeError, ValueError):
        raise Unmeasurable("Prometheus answers what is no query result") from None
    if not values:
        raise Unmeasurable("the query gives no series")
    total = sum(values)
    if not math.isfinite(total) or total < 0:
        raise Unmeasurable(f"the query gives {total:g}; a number from 0 on is needed")
    return total


def _error_of(body: bytes) -> str:
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        text = body.decode(errors="replace")
    return " ".join(text.split())[:200]


class Measuring:
    """Owns the task that measures. `every_s` seconds lie between two rounds."""

    def __init__(self, scaler: Scaler, orchestrator: Orchestrator, queries: Queries, every_s: float = EVERY_S) -> None:
        self._scaler = scaler
        self._orchestrator = orchestrator
        self._queries = queries
        self._every_s = every_s
        self._places = asyncio.Semaphore(AT_A_TIME)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._rounds())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.measure()
            except Exception:
                log.exception("a round of measuring failed")

    async def measure(self) -> None:
        """Measure once every function that has such a metric."""
        due = [
            (function, settings)
            for function, settings, ready in self._scaler.watched()
            if settings.metric in MEASURED and (ready or settings.metric is Metric.CUSTOM)
        ]
        await asyncio.gather(*(self._measure(function, settings) for function, settings in due))

    async def _measure(self, function: FunctionId, settings: ScaleSettings) -> None:
        async with self._places:
            try:
                value = await self._value(function, settings)
            except NotFound:
                return
            except Unmeasurable as error:
                self._scaler.measured(function, None, str(error))
                return
        self._scaler.measured(function, value)

    async def _value(self, function: FunctionId, settings: ScaleSettings) -> float:
        if settings.metric is Metric.CUSTOM:
            return await self._queries.ask(settings.query)
        usage = await self._orchestrator.usage(function)
        if usage is None:
            raise Unmeasurable(f"{settings.metric} of the function's replicas cannot be measured here")
        return usage.cpu_millicores if settings.metric is Metric.CPU else usage.memory_bytes / (1 << 20)
