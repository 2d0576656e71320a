"""Telling the service manager: systemd's notification protocol (sd_notify(3)), nothing where there is none."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(message: str) -> None:
    """Send `message` (`READY=1`, `STOPPING=1`) to the socket that NOTIFY_SOCKET names, if any."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.connect(address)
        sender.send(message.encode())
