"""A program that a build needs, as a child process: its output as lines while it runs, within a time limit.

It is started in the caller's process group, so that whoever ends that group ends it too.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

_PIECE_BYTES = 1 << 16


def run_child(
    command: Sequence[str],
    log: Callable[[str], None],
    deadline: float,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    held: Iterable[int] = (),
) -> int:
    """Run the command, give each line that it writes to `log`, and return its exit code.

    It runs in `folder` with that `environment` (the caller's own where none is given), and inherits the descriptors `held`,
    such as a lock. Raises TimeoutError at `deadline` (monotonic seconds), when it has been ended.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(held),
    ) as process:
        assert process.stdout is not None
        try:
            for line in _lines(process.stdout.fileno(), deadline):
                log(line)
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            process.kill()
    return process.returncode


def _lines(descriptor: int, deadline: float) -> Iterator[str]:
    rest = b""
    while True:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0 or not select.select([descriptor], [], [], wait_s)[0]:
            raise TimeoutError
        chunk = os.read(descriptor, _PIECE_BYTES)
        *whole, rest = (rest + chunk).split(b"\n")
        if not chunk and rest:
            whole.append(rest)
        for line in whole:
            text = line.decode(errors="replace").rstrip()
            if text:
                yield text
        if not chunk:
            return
