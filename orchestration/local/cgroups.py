"""Limits that bind: one cgroup for each replica, below one for the platform's data folder.

What a machine offers is probed, never assumed: a cgroup v2 tree in which the controllers can be handed down from the
platform's own cgroup, else the v1 hierarchies in which a folder can be made below it. The folders are made by the
platform; the process itself enters them before anything else (`keeper.child`).

Sources: kernel documentation, "Control Group v2" and "cgroup-v1/memory", "cgroup-v1/pids", "sched-bwc".
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from pathlib import Path

import msgspec

from orchestration.local.keeper import descent
from orchestration.local.limits import Limits

log = logging.getLogger("pinnace.cgroups")

CPU_PERIOD_US = 100_000
LEAST_QUOTA_US = 1_000
REMOVED_WITHIN_S = 2.0
PLATFORM_LEAF = "platform"

_V1_FILES = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max", "cpuacct": "cpuacct.usage"}
_V2_CONTROLLERS = ("memory", "cpu", "pids")


class CgroupFailed(Exception):
    """A cgroup could not be made; the message says which file refused."""


class ReplicaCgroup(msgspec.Struct, frozen=True):
    """The cgroup of one replica: `at` maps a controller to its folder (all the same one in v2).

    It may have held another replica before: `cpu_before_s` and `oom_kills_before` were counted then.
    """

    version: int
    at: dict[str, str]
    cpu_before_s: float = 0.0
    oom_kills_before: int = 0

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.at.values()))

    @property
    def memory(self) -> bool:
        return "memory" in self.at

    def enter(self, pid: int) -> None:
        """Move a process here. Blocks: the kernel waits until no fork is under way, 8-16 ms. Raises CgroupFailed."""
        for folder in self.folders:
            try:
                fd = os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, b"%d" % pid)
                finally:
                    os.close(fd)
            except OSError as error:
                raise CgroupFailed(f"{error.filename or folder}: {error.strerror}") from None

    @property
    def empty(self) -> bool:
        """Whether no process is here."""
        try:
            return not any(_contents(f"{folder}/cgroup.procs") for folder in self.folders)
        except OSError:
            return False

    def anew(self) -> ReplicaCgroup:
        """Return it for the next replica, which starts to count from here."""
        return ReplicaCgroup(
            self.version,
            self.at,
            cpu_before_s=self.cpu_before_s + (self.cpu_s() or 0.0),
            oom_kills_before=self.oom_kills_before + self.oom_kills(),
        )

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed here for memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return max(0, _field(self._read("memory", name), "oom_kill") - self.oom_kills_before)

    def memory_bytes(self) -> int | None:
        """Return the working set, as the kubelet counts it: usage without the file cache that can go at once."""
        usage = self._read("memory", "memory.current" if self.version == 2 else "memory.usage_in_bytes")
        if not usage:
            return None
        cache = "inactive_file" if self.version == 2 else "total_inactive_file"
        return max(0, int(usage) - _field(self._read("memory", "memory.stat"), cache))

    def cpu_s(self) -> float | None:
        """Return the CPU seconds used so far."""
        if self.version == 2:
            stat = self._read("cpu", "cpu.stat")
            return max(0.0, _field(stat, "usage_usec") / 1e6 - self.cpu_before_s) if stat else None
        usage = self._read("cpuacct", "cpuacct.usage")
        return max(0.0, int(usage) / 1e9 - self.cpu_before_s) if usage else None

    def _read(self, controller: str, name: str) -> str:
        if controller not in self.at:
            return ""
        try:
            return _contents(f"{self.at[controller]}/{name}").decode().strip()
        except OSError:  # it was removed meanwhile
            return ""


class Cgroups:
    """All cgroups of one data folder's platform. `bases` maps a controller to the folder that holds the replicas' own."""

    def __init__(self, version: int, bases: dict[str, Path]) -> None:
        self.version = version
        self.bases = bases

    @classmethod
    def probe(cls, instance: str, proc: Path = Path("/proc/self")) -> Cgroups | None:
        """Return what this machine lets us use, or None. `proc` holds `mountinfo` and `cgroup` (proc(5))."""
        try:
            mounts, own = _mounts((proc / "mountinfo").read_text()), _membership((proc / "cgroup").read_text())
        except OSError:
            return None
        name = f"pinnace-{instance}"
        return _probe_v2(mounts, own, name) or _probe_v1(mounts, own, name)

    def create(self, replica: str, limits: Limits) -> ReplicaCgroup:
        """Make the cgroup of a replica, or set the limits of the one it has. Raises CgroupFailed."""
        at = {controller: base / replica for controller, base in self.bases.items()}
        there = any(folder.is_dir() for folder in set(at.values()))
        for controller, folder in at.items():
            try:
                folder.mkdir(exist_ok=True)
                self._limit(controller, folder, limits)
            except OSError as error:
                raise CgroupFailed(f"{error.filename or folder}: {error.strerror}") from None
        cgroup = ReplicaCgroup(self.version, {controller: str(folder) for controller, folder in at.items()})
        return cgroup.anew() if there else cgroup

    def remove(self, replica: str) -> None:
        """Remove a replica's cgroup; what still runs in it is killed. Blocks, up to 2 s."""
        for folder in {base / replica for base in self.bases.values()}:
            _remove(folder)

    def sweep(self) -> None:
        """Kill and remove what an earlier platform of this data folder left. Blocks."""
        for base in set(self.bases.values()):
            for folder in sorted(path for path in base.iterdir() if path.is_dir()):
                _remove(folder)

    def close(self) -> None:
        """Remove the folders of the platform itself."""
        for base in set(self.bases.values()):
            _remove(base)

    def _limit(self, controller: str, folder: Path, limits: Limits) -> None:
        if controller == "memory" and limits.memory_bytes is not None:
            size = str(limits.memory_bytes)
            if self.version == 2:
                (folder / "memory.max").write_text(size)
                swap, value = folder / "memory.swap.max", "0"
            else:
                (folder / "memory.limit_in_bytes").write_text(size)
                swap, value = folder / "memory.memsw.limit_in_bytes", size
            if swap.exists():
                swap.write_text(value)
        elif controller == "cpu" and limits.cpu_cores is not None:
            quota = max(LEAST_QUOTA_US, round(limits.cpu_cores * CPU_PERIOD_US))
            if self.version == 2:
                (folder / "cpu.max").write_text(f"{quota} {CPU_PERIOD_US}")
            else:
                (folder / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(quota))
        elif controller == "pids":
            (folder / "pids.max").write_text(str(limits.processes))


def _mounts(mountinfo: str) -> dict[str, tuple[str, Path]]:
    """Return `controller → (root of the mount, mount point)`; the v2 tree is called `unified`."""
    found: dict[str, tuple[str, Path]] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        _, _, _, root, point, *_ = before.split(" ")
        if kind == "cgroup2":
            found["unified"] = (root, Path(point))
        elif kind == "cgroup":
            for option in options.rpartition(" ")[2].split(","):
                if option in _V1_FILES:
                    found[option] = (root, Path(point))
    return found


def _membership(text: str) -> dict[str, str]:
    """Return `controller → path` of this process (proc(5), /proc/PID/cgroup); the v2 path is called `unified`."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller or "unified"] = path
    return own


def _folder(mount: tuple[str, Path], path: str) -> Path:
    root, point = mount
    return point / path.removeprefix(root).strip("/")


def _probe_v1(mounts: dict[str, tuple[str, Path]], own: dict[str, str], name: str) -> Cgroups | None:
    bases = {}
    for controller, file in _V1_FILES.items():
        if controller in mounts:
            base = _folder(mounts[controller], own.get(controller, "/")) / name
            with contextlib.suppress(OSError):
                base.mkdir(exist_ok=True)
                trial = base / "trial"  # a base from before may exist where nothing more can be made
                trial.mkdir(exist_ok=True)
                if os.access(trial / file, os.W_OK):
                    bases[controller] = base
                _remove(trial)
    return Cgroups(1, bases) if bases.keys() & {"memory", "cpu"} else None


def _probe_v2(mounts: dict[str, tuple[str, Path]], own: dict[str, str], name: str) -> Cgroups | None:
    if "unified" not in mounts or "unified" not in own:
        return None
    folder = _folder(mounts["unified"], own["unified"])
    try:
        offered = (folder / "cgroup.controllers").read_text().split()
        controllers = [controller for controller in _V2_CONTROLLERS if controller in offered]
        if "memory" not in controllers:
            return None
        wanted = " ".join(f"+{controller}" for controller in controllers)
        if not set(controllers) <= set((folder / "cgroup.subtree_control").read_text().split()):
            _hand_down(folder, wanted)
        base = folder / name
        base.mkdir(exist_ok=True)
        (base / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        log.debug("cgroup v2 is not usable: %s", error)
        return None
    return Cgroups(2, dict.fromkeys(controllers, base))


def _hand_down(folder: Path, wanted: str) -> None:
    """Enable controllers below the platform's own cgroup, which may then hold no process itself: ours move to a leaf."""
    try:
        (folder / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    else:
        return
    members = {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    if not members <= descent.descendants([os.getpid()], descent.processes()):
        raise PermissionError(errno.EPERM, "other processes share the platform's cgroup", str(folder))
    leaf = folder / PLATFORM_LEAF
    leaf.mkdir(exist_ok=True)
    for pid in members:
        (leaf / "cgroup.procs").write_text(str(pid))
    (folder / "cgroup.subtree_control").write_text(wanted)


def _contents(path: str) -> bytes:
    """Read a small file of the kernel's: `Path.read_bytes` at a quarter of the cost."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _field(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name + " ")), 0)


def _remove(folder: Path) -> None:
    """Remove a cgroup with those below it; processes in it are killed first."""
    deadline = time.monotonic() + REMOVED_WITHIN_S
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                log.warning("the cgroup %s cannot be removed: %s", folder, error.strerror)
                return
        else:
            return
        with contextlib.suppress(OSError):
            for below in [path for path in folder.iterdir() if path.is_dir()]:
                _remove(below)
            descent.end(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        time.sleep(0.01)
