"""The memory of what waits to be forked, stems and zygotes, within one budget: what is over it goes by `greedy_dual`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

from orchestration.local.greedy_dual import GreedyDual


class MemoryBudget:
    """Keeps what waits within `most_bytes`. With 0 there are no zygotes, and stems are bounded by their number alone."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: GreedyDual[Hashable] = GreedyDual(most_bytes)
        self._drop: dict[Hashable, Callable[[], None]] = {}

    @property
    def used_bytes(self) -> int:
        return self._kept.used_bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def keep(self, key: Hashable, *, cost_s: float, size_bytes: int, drop: Callable[[], None]) -> bool:
        """Keep what took `cost_s` to make; others may be dropped for it. False where it has no room: `drop` is not called."""
        if size_bytes > self.most_bytes:  # nothing that could be dropped for it would be enough
            return False
        self._drop[key] = drop
        for gone in self._kept.put(key, cost_s=cost_s, size_bytes=size_bytes):
            dropped = self._drop.pop(gone)
            if gone != key:
                dropped()
        return key in self._kept

    def use(self, key: Hashable) -> None:
        """`key` was used; what is not kept is passed over."""
        self._kept.use(key)

    def forget(self, key: Hashable) -> None:
        """`key` is gone for another reason."""
        self._kept.forget(key)
        self._drop.pop(key, None)


def proportional_bytes(pid: int) -> int:
    """Return a process's memory, with what it shares divided by the number that share it (proc(5), smaps_rollup: Pss)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or this kernel does not say
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
