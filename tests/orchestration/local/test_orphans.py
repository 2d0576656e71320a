from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from orchestration.local.keeper import linux
from orchestration.local.orphans import reap_once


def zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def until_zombie(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not zombie(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_orphan_is_reaped_when_it_was_seen_twice() -> None:
    was = linux.is_child_subreaper()
    linux.set_child_subreaper(True)
    try:
        leaves = "import os, sys; pid = os.fork(); print(pid) if pid else None; os._exit(0) if not pid else sys.stdout.flush()"
        orphan = int(subprocess.run([sys.executable, "-c", leaves], capture_output=True, text=True, check=True).stdout)
        until_zombie(orphan)
        seen = reap_once(set())
        assert orphan in seen
        assert zombie(orphan)
        assert orphan not in reap_once(seen)
        assert not Path(f"/proc/{orphan}").exists()
    finally:
        linux.set_child_subreaper(was)


def test_a_child_that_its_owner_waits_for_keeps_its_exit_code() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    until_zombie(child.pid)
    assert child.pid in reap_once(set())
    assert child.wait() == 7
