"""A Unix socket that only the platform's own user can connect to, at no moment anybody else."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def private_socket(path: Path) -> socket.socket:
    """Return a bound socket that does not listen yet; what was at `path` is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        bound.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens
        stack.pop_all()
    return bound
