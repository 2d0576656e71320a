"""When a replica whose process ended is started again: the kubelet's rule for containers.

The first restart is immediate, then waits double from 10 s to 5 min; a process that ran for 10 min starts over.
Source: Kubernetes, "Pod Lifecycle", container restart policy.
"""

from __future__ import annotations

FIRST_WAIT_S = 10.0
LONGEST_WAIT_S = 300.0
RESET_AFTER_S = 600.0


def restart_wait_s(previous_s: float | None, ran_s: float) -> float:
    """Return how long to wait. `previous_s` is the wait before the process that just ended, None for the first process.

    None → 0 → 10 → 20 → 40 … → 300, and 0 again whenever a process ran for `RESET_AFTER_S`.
    """
    if previous_s is None or ran_s >= RESET_AFTER_S:
        return 0.0
    return min(max(FIRST_WAIT_S, previous_s * 2), LONGEST_WAIT_S)
