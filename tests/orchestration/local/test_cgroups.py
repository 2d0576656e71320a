"""Finding out what cgroups a machine offers, and using them, on fake trees of files: v2 delegated or not, v1, none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestration.local.cgroups import Cgroups
from orchestration.local.limits import Limits

LIMITS = Limits(memory_bytes=64 << 20, cpu_cores=0.25, processes=10)


def machine(place: Path, mounts: dict[str, tuple[str, str]], own: str) -> Path:
    """Write a /proc/self: `mounts` maps a mount point below `place` to its kind and options, `own` is its cgroup file."""
    proc = place / "proc"
    proc.mkdir()
    lines = [f"30 20 0:26 / {place}/{point} rw - {kind} cgroup {options}" for point, (kind, options) in mounts.items()]
    (proc / "mountinfo").write_text("\n".join(["20 1 0:1 / / rw - ext4 /dev/vda rw", *lines]) + "\n")
    (proc / "cgroup").write_text(own)
    return proc


def v2(place: Path, controllers: str, enabled: str) -> tuple[Path, Path]:
    own = place / "cg" / "system.slice" / "pinnace.service"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.subtree_control").write_text(enabled)
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return machine(place, {"cg": ("cgroup2", "rw")}, "0::/system.slice/pinnace.service\n"), own


def test_v2_with_delegated_controllers(place: Path) -> None:
    proc, own = v2(place, "cpuset cpu io memory pids", "cpu memory pids")
    cgroups = Cgroups.probe("abc", proc)
    assert cgroups is not None
    base = own / "pinnace-abc"
    assert cgroups.version == 2
    assert cgroups.bases == {"memory": base, "cpu": base, "pids": base}
    assert (base / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    replica = cgroups.create("r1", LIMITS)
    written = {path.name: path.read_text() for path in (base / "r1").iterdir()}
    assert written == {"memory.max": str(64 << 20), "cpu.max": "25000 100000", "pids.max": "10"}
    assert replica.folders == (str(base / "r1"),)


def test_v2_hands_controllers_down_when_it_may(place: Path) -> None:
    proc, own = v2(place, "memory pids", "")
    cgroups = Cgroups.probe("abc", proc)
    assert cgroups is not None
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert set(cgroups.bases) == {"memory", "pids"}


def test_v2_moves_the_platform_to_a_leaf_before_it_hands_down(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, own = v2(place, "memory", "")
    write = Path.write_text
    leaf = own / "platform"

    def refusing(path: Path, text: str) -> int:
        if path == own / "cgroup.subtree_control" and not leaf.exists():
            raise OSError(16, "Device or resource busy", str(path))  # "no internal processes"
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", refusing)
    assert Cgroups.probe("abc", proc) is not None
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())


def test_v2_shared_with_others_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, own = v2(place, "memory", "")
    (own / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")

    def busy(path: Path, text: str) -> int:
        raise OSError(16, "Device or resource busy", str(path))

    monkeypatch.setattr(Path, "write_text", busy)
    assert Cgroups.probe("abc", proc) is None
    assert not (own / "platform").exists()


def test_v2_counters_are_read(place: Path) -> None:
    proc, own = v2(place, "cpu memory", "cpu memory")
    cgroups = Cgroups.probe("abc", proc)
    assert cgroups is not None
    replica = cgroups.create("r1", Limits())
    assert (replica.oom_kills(), replica.memory_bytes(), replica.cpu_s()) == (0, None, None)
    folder = own / "pinnace-abc" / "r1"
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n")
    (folder / "memory.current").write_text("5000\n")
    (folder / "memory.stat").write_text("anon 1000\nfile 4000\ninactive_file 3000\n")
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    assert (replica.oom_kills(), replica.memory_bytes(), replica.cpu_s()) == (1, 2000, 1.5)


def test_without_cgroups_there_are_none(place: Path) -> None:
    assert Cgroups.probe("abc", machine(place, {}, "0::/\n")) is None
    assert Cgroups.probe("abc", place / "nowhere") is None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not Path("/sys/fs/cgroup/memory").is_dir(), reason="needs root and cgroup v1")
def test_v1_limits_are_what_the_kernel_says(place: Path) -> None:
    cgroups = Cgroups.probe(f"test-{place.name}")
    assert cgroups is not None
    try:
        replica = cgroups.create("r1", LIMITS)
        values = {
            ("memory", "memory.limit_in_bytes"): str(64 << 20),
            ("cpu", "cpu.cfs_quota_us"): "25000",
            ("pids", "pids.max"): "10",
        }
        for (controller, file), value in values.items():
            if controller in replica.at:
                assert (Path(replica.at[controller]) / file).read_text().strip() == value
        assert replica.oom_kills() == 0
        cgroups.remove("r1")
        assert not any(Path(folder).exists() for folder in replica.folders)
    finally:
        cgroups.close()
    assert not any(base.exists() for base in cgroups.bases.values())
