"""The spans of the controller's work on one function: the whole, and one for each write to the API server.

    reconcile                    internal   k8s.namespace.name, pinnace.function
    └─ apply Deployment          client     k8s.namespace.name, k8s.object.kind, k8s.object.name, k8s.deployment.name

A look at a function that found nothing to write, as most do, leaves no trace.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final

from orchestration.kubernetes.api import DEPLOYMENTS, ApiError, Kind
from orchestration.names import FunctionId
from telemetry.spans import Attribute, Span
from telemetry.spans import Kind as SpanKind

OnSpan = Callable[[Span], None]


class _Work:
    """The writes for one function so far; `span` is that of the whole."""

    def __init__(self) -> None:
        self.trace = secrets.token_hex(16)
        self.span = secrets.token_hex(8)
        self.writes: list[Span] = []


_work: Final[ContextVar[_Work | None]] = ContextVar("work", default=None)


class ReconcileSpans:
    """Hands spans to `on_span`, which is None where nothing is traced; `clock` gives nanoseconds since 1970."""

    def __init__(self, on_span: OnSpan | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        self.on_span = on_span
        self._clock = clock

    @contextlib.contextmanager
    def reconcile(self, function: FunctionId) -> Iterator[None]:
        """The controller works on a function while entered."""
        if (on_span := self.on_span) is None:
            yield
            return
        work, began, error = _Work(), self._clock(), ""
        token = _work.set(work)
        try:
            yield
        except Exception as failure:
            error = _type_of(failure)
            raise
        finally:
            _work.reset(token)
            if work.writes or error:
                about: dict[str, Attribute] = {"k8s.namespace.name": function.namespace, "pinnace.function": function.name}
                on_span(self._made(work, work.span, "", "reconcile", "internal", began, about, error))
                for span in work.writes:
                    on_span(span)

    @contextlib.contextmanager
    def write(self, verb: str, kind: Kind, namespace: str, name: str) -> Iterator[None]:
        """Something is written for that function while entered."""
        work = _work.get()
        if work is None:
            yield
            return
        began, error = self._clock(), ""
        try:
            yield
        except Exception as failure:
            error = _type_of(failure)
            raise
        finally:
            about: dict[str, Attribute] = {
                "k8s.namespace.name": namespace,
                "k8s.object.kind": kind.name,
                "k8s.object.name": name,
            }
            if kind is DEPLOYMENTS:
                about["k8s.deployment.name"] = name
            span = secrets.token_hex(8)
            work.writes.append(self._made(work, span, work.span, f"{verb} {kind.name}", "client", began, about, error))

    def _made(
        self,
        work: _Work,
        span: str,
        parent: str,
        name: str,
        kind: SpanKind,
        began: int,
        attributes: dict[str, Attribute],
        error: str,
    ) -> Span:
        return Span(
            trace=work.trace,
            span=span,
            parent=parent,
            name=name,
            kind=kind,
            start_ns=began,
            end_ns=max(began, self._clock()),
            attributes=attributes | ({"error.type": error} if error else {}),
            error=error,
        )


def _type_of(failure: Exception) -> str:
    return (failure.reason if isinstance(failure, ApiError) else "") or type(failure).__name__
