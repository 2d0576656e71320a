"""The life of a replica process: settings, logs, handler, socket, calls, end."""

from __future__ import annotations

import _socket
import os
import sys

from pinnace_runtime import logs
from pinnace_runtime.loading import LoadFailed, arrange_path
from pinnace_runtime.settings import InvalidSetting, Settings, read_settings
from pinnace_runtime.templates import load

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from typing import NoReturn

    from pinnace_runtime.templates import Serve

BACKLOG = 1024


def main(arguments: list[str]) -> NoReturn:
    """Serve the function in the working folder with the template that `arguments` names, then end the process."""
    if len(arguments) != 1:
        sys.exit("usage: python -I PATH/pinnace_runtime/__main__.py TEMPLATE")
    code = os.getcwd()
    arrange_path(code)
    try:
        settings = read_settings(os.environ)
    except InvalidSetting as error:
        sys.exit(str(error))
    logs.install(code, frames=settings.log_frames)
    if settings.notify_fd is not None:
        os.set_inheritable(settings.notify_fd, False)
    if control := os.environ.pop("PINNACE_ZYGOTE_FD", ""):
        from pinnace_runtime.zygote import Zygote

        Zygote(int(control), settings).run(arguments[0], code)
    try:
        serve = load(arguments[0], code)
    except LoadFailed as error:
        fail(error, settings)
    run(serve, settings)


def run(serve: Serve, settings: Settings) -> NoReturn:
    """Serve a loaded handler on the socket that the platform gave, then end the process: 0 when no call was cut off."""
    try:
        finished = serve(_listen(settings), settings, lambda: notify(settings, b'{"ready": true}\n'))
    except LoadFailed as error:
        fail(error, settings)
    _end(0 if finished else 1)


def fail(error: LoadFailed, settings: Settings) -> NoReturn:
    """Tell the platform and the log why the function cannot be served, and end the process."""
    import json

    told = settings.notify_fd is not None  # then the platform writes the line, with the replica's name, behind the traceback
    sys.stderr.write(error.detail if told else f"{error.detail}{error}\n")
    notify(settings, json.dumps({"failed": str(error), "detail": error.detail}).encode() + b"\n")
    _end(1)


def _listen(settings: Settings) -> _socket.socket:
    if settings.listen_fd is not None:
        os.set_inheritable(settings.listen_fd, False)  # it is not for processes that the handler starts
        return _socket.socket(fileno=settings.listen_fd)
    try:
        # One socket for both families: pods may have only IPv6 addresses.
        listener = _socket.socket(_socket.AF_INET6, _socket.SOCK_STREAM)
        listener.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        address = "::"
    except OSError:
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        address = "0.0.0.0"  # noqa: S104  # the port of a container is there to be reached
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, settings.port))
    except OSError as error:
        raise LoadFailed(f"cannot listen on port {settings.port}: {error.strerror}") from None
    listener.listen(BACKLOG)
    return listener


def notify(settings: Settings, line: bytes) -> None:
    """Write the one line that the platform waits for, and close the pipe."""
    if settings.notify_fd is None:
        return
    try:
        rest = line
        while rest:
            rest = rest[os.write(settings.notify_fd, rest) :]
        os.close(settings.notify_fd)
    except OSError as error:
        logs.log(f"the platform does not hear that this replica started: {error}")


def _end(code: int) -> NoReturn:
    """End the process without waiting for threads of the handler's own; what they should do at exit is done."""
    import atexit

    atexit._run_exitfuncs()
    logs.end_all()
    os._exit(code)
