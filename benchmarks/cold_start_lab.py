"""What the cold-start benchmark looks at: the platform's processes in /proc, what they hold, and the proof of zero."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sqlite3
import time
from pathlib import Path

from tests.end_to_end.platform import Platform, until

WAITING = {"keeper", "stem", "zygote"}


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def below(pid: int) -> list[int]:
    """Every process below `pid`."""
    return [each for child in children(pid) for each in (child, *below(child))]


def keeper(platform: Platform) -> int:
    """The platform's keeper: its child that is no build worker, and ends with it."""
    assert platform.process is not None
    (found,) = [
        pid
        for pid in below(platform.process.pid)
        if b"orchestration.local.keeper.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


def processes(platform: Platform, above: int) -> dict[int, str]:
    """The platform's processes when nothing runs: pid → what it is."""
    assert platform.process is not None
    return {platform.process.pid: "platform", above: "keeper"} | {pid: comm(pid) for pid in below(above)}


def pss_kib(pid: int, field: str = "Pss:") -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(field))


def uss_kib(pid: int) -> int:
    return pss_kib(pid, "Private_Clean:") + pss_kib(pid, "Private_Dirty:")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def listeners(platform: Platform) -> list[str]:
    """The Unix sockets on which replicas listen: named by a number, in the platform's folder."""
    with contextlib.closing(sqlite3.connect(platform.data / "state.db")) as database:
        (instance,) = database.execute("SELECT value FROM facts WHERE name = 'instance'").fetchone()
    found = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        name = fields[7] if len(fields) > 7 else ""
        if (
            fields[3] == "00010000"
            and f"/pinnace-{instance}/" in name
            and all(c in "0123456789abcdef" for c in Path(name).stem)
        ):
            found.append(name)
    return found


def prove_zero(platform: Platform, above: int) -> None:
    """Wait until nothing is left of any replica; raises AssertionError when that does not come about."""
    until(lambda: all(comm(pid) in WAITING for pid in below(above)), within_s=30, every_s=0.01)
    until(lambda: not listeners(platform), within_s=30, every_s=0.01)


def waiting_memory(above: int) -> str:
    """PSS of what waits to be forked, the largest first."""
    found = sorted(((pss_kib(pid) / 1024, comm(pid)) for pid in below(above) if comm(pid) in ("stem", "zygote")), reverse=True)
    more = f" and {len(found) - 3} more: {sum(mib for mib, _ in found[3:]):.1f} MiB" if len(found) > 3 else ""
    return ", ".join(f"{name} {mib:.1f} MiB" for mib, name in found[:3]) + more


def call_s(platform: Platform, name: str) -> tuple[float, str]:
    """Call a function on a new connection; return what it took (s), from request to the response's last byte, and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("POST", f"/function/{name}", b"x")
    response = connection.getresponse()
    body = response.read().decode()
    took = time.perf_counter() - began
    connection.close()
    assert response.status == 200, (response.status, body)
    return took, body


def deploy_image(platform: Platform, name: str, image: str, labels: dict[str, str]) -> None:
    """Deploy an image under another name, and let it go to zero once it was ready; it is never called."""
    body = {"service": name, "image": image, "labels": {"com.openfaas.scale.zero": "true", **labels}}
    assert platform.request("POST", "/system/functions", json.dumps(body)).status == 202
    until(lambda: platform.status(name).get("availableReplicas"), within_s=60)
    platform.scale(name, 0)


def remove(platform: Platform, name: str) -> None:
    assert platform.request("DELETE", "/system/functions", json.dumps({"functionName": name})).status == 202


def image_of(platform: Platform, name: str) -> str:
    return str(platform.details(name)["spec"]["image"])


def percentile(times: list[float], part: float) -> float:
    """Nearest rank: the least that so many are not above."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def percentiles(times: list[float]) -> str:
    return "".join(f"{1000 * percentile(times, part):9.1f}" for part in (0.5, 0.95, 0.99))


def verdict(*, met: bool) -> str:
    return "met" if met else "MISSED"
