"""A call that asks where its time goes: its answer carries `Server-Timing` (W3C, Server Timing), up to the first byte.

The client asks with `X-Pinnace-Timing: 1`, which no plain head holds (`plain`): calls that do not ask pay nothing.
"""

from __future__ import annotations

from gateway.edge.call import RESPONDING, SENT, Call
from gateway.edge.tracing import TRACED_LINE
from orchestration.starts import Start, parts


class TimedCall(Call):
    """Adds the line to the marks that the response carries."""

    __slots__ = ("_marks",)

    @property
    def marks(self) -> bytes:
        """The header lines of the call: once it was sent, those of the response."""
        if self.phase not in (SENT, RESPONDING):
            return self._marks
        now = self.client.context.clock()
        start = self.dispatcher.start_of(self.backend.id) if self.waited_s else None
        return self._marks + server_timing(self.sent - self.started, now - self.sent, start)

    @marks.setter
    def marks(self, lines: bytes) -> None:
        self._marks = lines

    def say_traced(self) -> None:
        """Let the answer say that the call is traced."""
        self._marks += TRACED_LINE


def server_timing(waited_s: float, ran_s: float, start: Start | None) -> bytes:
    """Return the header line. `waited_s` is until the call was sent, of which `start` may have been a part; `ran_s` from then
    until the response began."""
    metrics = [f"wait;dur={waited_s * 1000:.3f}"]
    if start is not None and start.total_s <= waited_s:
        metrics.append(f'start;dur={start.total_s * 1000:.3f};desc="{start.kind}"')
        metrics += [f"start-{name};dur={took_s * 1000:.3f}" for name, took_s in parts(start)]
    metrics.append(f"run;dur={ran_s * 1000:.3f}")
    return f"Server-Timing: {', '.join(metrics)}\r\n".encode()
