"""The classic watchdog: a program for each call, which reads the request's body and writes the response's.

    head ─► environment (`Http_…`)      body ─► stdin      stdout ─► response      stderr ─► log

The program starts when the body is whole, so that a slow client holds no process, and the body never has to be pumped:
a small one is in the pipe before the program starts, a large one is a file. What the program writes is held back up to
`HELD_BYTES`: until then its end decides the status, so that a failure is a 500 and not half an answer with a 200. A
longer answer is streamed, and a failure cuts it off. A call ends with its program; what that left running in its
process group is ended too.
"""

from __future__ import annotations

import os
import shlex

from pinnace_runtime import logs
from pinnace_runtime.deadlines import call_timeout_s
from pinnace_runtime.loading import HANDLER_FOLDER, LoadFailed
from pinnace_runtime.program import Program, ProgramFailed, TimeIsUp
from pinnace_runtime.reply import PLAIN, Reply, failure
from pinnace_runtime.settings import InvalidSetting
from pinnace_runtime.thread_connection import RUNTIME_MARK

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Generator, Mapping

    from pinnace_runtime.http1 import Request
    from pinnace_runtime.settings import Settings
    from pinnace_runtime.spool import File

HELD_BYTES = 1024 * 1024
MOST_NAMES = 512

_CONTRACT = frozenset(("PINNACE_LISTEN_FD", "PINNACE_NOTIFY_FD", "PINNACE_LOG_FRAMES"))


class ClassicSettings:
    """What the watchdog is told by variables of OpenFaaS's names. `words` is the command, its program as a path."""

    def __init__(self, words: list[str], *, combine_output: bool, cgi_headers: bool) -> None:
        self.words = words
        self.combine_output = combine_output
        self.cgi_headers = cgi_headers


def load_classic(code: str) -> Callable[[_socket.socket, Settings, Callable[[], None]], bool]:
    """Return what serves the command in `fprocess`, run in the function's folder. Raises LoadFailed."""
    folder = os.path.join(code, HANDLER_FOLDER)
    os.chdir(folder if os.path.isdir(folder) else code)
    try:
        classic = read_classic_settings(os.environ)
    except InvalidSetting as error:
        raise LoadFailed(str(error)) from None

    from pinnace_runtime.spool import Spool
    from pinnace_runtime.thread_server import ThreadServer

    def serve(listener: _socket.socket, settings: Settings, ready: Callable[[], None]) -> bool:
        watchdog = Watchdog(classic, settings, os.environ)
        return ThreadServer(listener, watchdog.respond, settings, new_body=Spool).serve(ready)

    return serve


def read_classic_settings(environ: Mapping[str, str]) -> ClassicSettings:
    """Return the settings in `environ`; the program is looked for as a shell would. Raises InvalidSetting."""
    command = environ.get("fprocess") or environ.get("function_process") or ""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidSetting(f"fprocess={command!r}: {error}") from None
    if not words:
        raise InvalidSetting("fprocess is empty: it is the command that answers a call, such as `bash handler.sh`")
    words[0] = _program(words[0], environ.get("PATH", os.defpath))
    return ClassicSettings(
        words,
        combine_output=_switch(environ, "combine_output", default=False),
        cgi_headers=_switch(environ, "cgi_headers", default=True),
    )


class Watchdog:
    """Answers calls by running the command."""

    def __init__(self, classic: ClassicSettings, settings: Settings, environ: Mapping[str, str]) -> None:
        self._classic = classic
        self._settings = settings
        self._content_type = settings.content_type.encode("latin-1", "replace") or PLAIN
        self._environment = {os.fsencode(name): os.fsencode(value) for name, value in environ.items() if name not in _CONTRACT}
        self._names: dict[bytes, bytes] = {}

    def respond(self, request: Request, body: bytes | File) -> Reply:
        """Run the command for one call and return what it answers."""
        try:
            return self._respond(request, body)
        finally:
            if not isinstance(body, bytes):
                body.close()

    def _respond(self, request: Request, body: bytes | File) -> Reply:
        limit_s = call_timeout_s(request, self._settings.exec_timeout_s)
        size = len(body) if isinstance(body, bytes) else body.size
        try:
            environment = self._environment_of(request, size)
            program = Program(self._classic.words, environment, body, limit_s, combine_output=self._classic.combine_output)
        except ValueError:
            return Reply(b"the path cannot be given to a program\n", PLAIN, 400)
        except OSError as error:
            logs.log(f"fprocess cannot be run: {self._classic.words[0]}: {error.strerror}")
            return failure()
        pieces = program.pieces()
        held: list[bytes] = []
        held_bytes = 0
        try:
            for piece in pieces:
                held.append(piece)
                held_bytes += len(piece)
                if held_bytes > HELD_BYTES:
                    return Reply(None, self._content_type, stream=_Rest(held, pieces))
        except TimeIsUp as error:
            logs.log(str(error))
            reply = Reply(f"The call took longer than the function's timeout, {limit_s:g} s\n".encode(), PLAIN, 504)
            reply.headers.append(RUNTIME_MARK)
            return reply
        except ProgramFailed as error:
            logs.log(str(error))
            return Reply(b"".join(held), self._content_type, 500) if held else failure()
        return Reply(b"".join(held), self._content_type)

    def _environment_of(self, request: Request, body_bytes: int) -> dict[bytes, bytes]:
        """Return the program's environment. Raises ValueError for a path with a NUL in it."""
        if not self._classic.cgi_headers:
            return self._environment
        environment = self._environment.copy()
        for header, value in request.headers:
            name = self._names.get(header) or self._name_of(header)
            if name in environment and name not in self._environment:
                value = environment[name] + (b"; " if header == b"cookie" else b", ") + value
            if name:
                environment[name] = value
        path = _decoded(request.path)
        if b"\0" in path:
            raise ValueError("NUL")
        # Last, so that no header takes the place of what the request is.
        length = b"%d" % body_bytes
        environment[b"Http_Method"] = request.method.encode()
        environment[b"Http_Path"] = path
        environment[b"Http_Query"] = request.query
        environment[b"Http_ContentLength"] = environment[b"Http_Content_Length"] = length
        return environment

    def _name_of(self, header: bytes) -> bytes:
        """Return the variable for a header, empty for one that gets none.

        `Proxy` would become a proxy to many HTTP clients, which look for `http_proxy` in any case (CVE-2016-5385). A name
        with `_` could pass for another one with `-`.
        """
        if header == b"proxy" or b"_" in header:
            return b""
        name = b"Http_" + b"_".join([part.capitalize() for part in header.split(b"-")])
        if len(self._names) < MOST_NAMES:
            self._names[header] = name
        return name


class _Rest:
    """What was held back, then the rest as it comes. Closing it ends the program, also when nothing was taken yet."""

    def __init__(self, held: list[bytes], pieces: Generator[bytes, None, None]) -> None:
        self._held = b"".join(held)
        self._pieces = pieces
        self.close = pieces.close

    def __iter__(self) -> _Rest:
        return self

    def __next__(self) -> bytes:
        if self._held:
            held, self._held = self._held, b""
            return held
        return next(self._pieces)


def _program(name: str, path: str) -> str:
    """Return where the program is that a shell would find. Raises InvalidSetting."""
    candidates = [name] if "/" in name else [os.path.join(folder, name) for folder in path.split(os.pathsep) if folder]
    for candidate in candidates:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    if "/" not in name:
        beside = " (a program beside the handler is `./" + name + "`)" if os.path.exists(name) else ""
        raise InvalidSetting(f"fprocess: there is no program {name!r} in any folder of PATH{beside}")
    if os.path.isfile(name):
        raise InvalidSetting(f"fprocess: {name} is not executable: chmod +x it before the deploy")
    raise InvalidSetting(f"fprocess: there is no program {name!r} in the function's folder")


def _switch(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name, "").strip().lower()
    if text in ("", "true", "1", "false", "0"):
        return text in ("true", "1") if text else default
    raise InvalidSetting(f"{name}={text!r}: true or false")


def _decoded(path: bytes) -> bytes:
    if b"%" not in path:
        return path
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path)
