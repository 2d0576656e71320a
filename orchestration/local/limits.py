"""The limits of a revision as numbers, and the resource limits that stand in where there is no cgroup."""

from __future__ import annotations

import os
import resource
from typing import Protocol

import msgspec

from orchestration.quantity import InvalidQuantity, cpu_cores, memory_bytes
from orchestration.revision import Revision
from orchestration.settings import InvalidSetting
from orchestration.spec import Resources

PROCESSES_AT_MOST = 1024


class Limits(msgspec.Struct, frozen=True):
    """`memory_bytes` and `cpu_cores` are None where the function sets none; `processes` counts threads, too."""

    memory_bytes: int | None = None
    cpu_cores: float | None = None
    processes: int = PROCESSES_AT_MOST


class Enforced(Protocol):
    """Which limits something enforces."""

    @property
    def memory(self) -> bool: ...


def check_resources(kind: str, resources: Resources | None) -> Limits:
    """Return the quantities of a spec's `limits` or `requests` as numbers. Raises settings.InvalidSetting."""
    if resources is None:
        return Limits()
    try:
        return Limits(
            memory_bytes=memory_bytes(resources.memory) if resources.memory else None,
            cpu_cores=cpu_cores(resources.cpu) if resources.cpu else None,
        )
    except InvalidQuantity as error:
        raise InvalidSetting(f"{kind}: {error}") from None


def machine_memory_bytes() -> int:
    """Return how much memory this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def limits_of(revision: Revision) -> Limits:
    return check_resources("limits", revision.limits)


def rlimits(limits: Limits, cgroup: Enforced | None) -> tuple[tuple[int, int, int], ...]:
    """Return (resource, soft, hard) for a process: memory only where no cgroup holds it, and never a core file."""
    found = [(resource.RLIMIT_CORE, 0, 0)]
    if limits.memory_bytes is not None and not (cgroup is not None and cgroup.memory):
        found.append((resource.RLIMIT_DATA, limits.memory_bytes, limits.memory_bytes))
    return tuple(found)
