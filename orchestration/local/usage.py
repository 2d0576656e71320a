"""What replicas use: from their cgroups where there are some, else from /proc over each replica's whole descent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from orchestration.local.keeper import descent
from orchestration.local.replica_process import ReplicaProcess
from orchestration.names import FunctionId
from orchestration.orchestrator import Consumption, Usage

LEAST_INTERVAL_S = 0.2
LONGEST_INTERVAL_S = 60.0
REMEMBERED = 10_000

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class UsageMeter:
    """Remembers the last CPU reading of each process, so that the next one gives a rate."""

    def __init__(self) -> None:
        self._readings: dict[tuple[str, int], tuple[float, float]] = {}

    async def measure(self, processes: Sequence[ReplicaProcess]) -> Usage | None:
        """Return the sums over the replicas; the first reading of a process takes `LEAST_INTERVAL_S`."""
        if not processes:
            return Usage(0.0, 0.0)
        first = await asyncio.to_thread(_read, processes)
        now = time.monotonic()
        if not first:
            return None
        if any(not self._recent(key, now) for key in first):
            self._remember(first, now)
            await asyncio.sleep(LEAST_INTERVAL_S)
            first = await asyncio.to_thread(_read, processes)
            now = time.monotonic()
        millicores = 0.0
        for key, (cpu_s, _) in first.items():
            if key in self._readings:
                before_s, at = self._readings[key]
                millicores += max(0.0, cpu_s - before_s) / max(now - at, 1e-3) * 1000
        self._remember(first, now)
        return Usage(millicores, sum(memory for _, memory in first.values()))

    def _recent(self, key: tuple[str, int], now: float) -> bool:
        return key in self._readings and LEAST_INTERVAL_S <= now - self._readings[key][1] <= LONGEST_INTERVAL_S

    def _remember(self, readings: dict[tuple[str, int], tuple[float, float]], now: float) -> None:
        if len(self._readings) > REMEMBERED:
            self._readings.clear()
        for key, (cpu_s, _) in readings.items():
            self._readings[key] = (cpu_s, now)


class ConsumptionMeter:
    """Adds up what replicas used, so that one that ends takes nothing away. What it used since the last reading is not seen."""

    def __init__(self) -> None:
        self._cpu_s: dict[FunctionId, float] = {}
        self._last: dict[tuple[str, int], float] = {}

    async def measure(
        self, processes: Sequence[ReplicaProcess], known: Container[FunctionId]
    ) -> Mapping[FunctionId, Consumption]:
        """Return what each `known` function used; `processes` are all that there are now. Others are forgotten."""
        functions = {p.replica.id: FunctionId(p.revision.namespace, p.revision.function) for p in processes}
        readings = await asyncio.to_thread(_read, processes)
        memory: dict[FunctionId, float] = {}
        for key, (cpu_s, bytes_) in readings.items():
            function = functions[key[0]]
            used_s = max(0.0, cpu_s - self._last.get(key, 0.0))
            self._cpu_s[function] = self._cpu_s.get(function, 0.0) + used_s
            memory[function] = memory.get(function, 0.0) + bytes_
        self._last = {key: cpu_s for key, (cpu_s, _) in readings.items()}
        self._cpu_s = {function: cpu_s for function, cpu_s in self._cpu_s.items() if function in known}
        return {function: Consumption(cpu_s, memory.get(function, 0.0)) for function, cpu_s in self._cpu_s.items()}


def _read(processes: Sequence[ReplicaProcess]) -> dict[tuple[str, int], tuple[float, float]]:
    """Return `(replica, pid) → (CPU seconds so far, memory bytes)`."""
    found = {}
    table: dict[int, tuple[int, str]] | None = None
    for process in processes:
        launched = process.launched
        if launched is None:
            continue
        pid = launched.process.pid
        cpu_s = launched.cgroup.cpu_s() if launched.cgroup else None
        memory = launched.cgroup.memory_bytes() if launched.cgroup else None
        if cpu_s is None or memory is None:
            table = table if table is not None else descent.processes()
            own = [_of_process(each) for each in descent.descendants([pid], table)]
            cpu_s = cpu_s if cpu_s is not None else sum(cpu for cpu, _ in own)
            memory = memory if memory is not None else sum(bytes_ for _, bytes_ in own)
        found[(process.replica.id, pid)] = (cpu_s, float(memory))
    return found


def _of_process(pid: int) -> tuple[float, int]:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        user, system, resident = int(fields[11]), int(fields[12]), int(fields[21])
        return (user + system) / _TICKS, resident * _PAGE_BYTES
    return 0.0, 0
