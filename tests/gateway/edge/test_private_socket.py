"""A socket for the platform alone."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from gateway.edge.private_socket import private_socket


def test_it_is_its_owner_s_before_anybody_can_connect(folder: Path) -> None:
    path = folder / "socket"
    path.write_text("left by another")
    with private_socket(path) as bound, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ConnectionRefusedError):
            client.connect(str(path))
        bound.listen()
        client.connect(str(path))


def test_a_place_that_cannot_be_is_said(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        private_socket(folder / "none" / "socket")
