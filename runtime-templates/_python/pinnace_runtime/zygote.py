"""A zygote: this process with the handler imported, which forks the replicas of one revision.

It has the revision's environment, secrets, user, limits and view of the file system; a fork learns only where to listen,
where to write its output, and its folder for temporary files. What `fork_server` is asked carries:

    {…, "room": PATH, "temporary": PATH}  with files: stdout, stderr, listen socket, notify pipe
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module beneath signal, which typeshed does not describe
import gc
import json
import os

from pinnace_runtime import fitness, logs, newborn, reseed
from pinnace_runtime.fork_server import ForkServer, out_of_reach
from pinnace_runtime.loading import LoadFailed
from pinnace_runtime.process import fail, notify, run
from pinnace_runtime.templates import load

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from pinnace_runtime.settings import Settings
    from pinnace_runtime.templates import Serve

# Of all processes the zygotes are the first that the kernel ends when the machine's memory is short: they can be made again.
EXPENDABLE = 500


class Zygote:
    """`control` is the number of the socket's descriptor. The notify pipe in `settings` hears whether it can fork."""

    def __init__(self, control: int, settings: Settings) -> None:
        self._settings = settings
        self._server = ForkServer(control)
        settings.notify_fd = out_of_reach(settings.notify_fd) if settings.notify_fd is not None else None
        self._temporary = os.environ.get("TMPDIR", "")
        self._rooms = os.environ.pop("PINNACE_ROOMS", "")
        self._shown = [path for path in os.environ.pop("PINNACE_SHOWN", "").split(os.pathsep) if path]
        self._signals: list[tuple[int, Any]] = []
        self._generators: list[Any] = []
        self._name = newborn.rename(b"zygote")

    def run(self, template: str, code: str) -> NoReturn:
        """Import the handler, say whether this process can be forked, fork until the keeper is gone."""
        if self._rooms:
            self._try_namespaces()
        serve = self._load(template, code)
        self._generators = reseed.find()
        self._rest_signals()
        _set_expendable(EXPENDABLE)
        gc.collect()
        gc.freeze()
        notify(self._settings, b'{"ready": true}\n')
        self._server.run(lambda message, fds: self._become(serve, message, fds))

    def _load(self, template: str, code: str) -> Serve:
        own = (self._server.fileno(), *((self._settings.notify_fd,) if self._settings.notify_fd is not None else ()))
        before = fitness.Before(own)
        newborn.set_child_subreaper(True)  # daemons of the import are seen as children
        try:
            serve = load(template, code)
        except LoadFailed as error:
            fail(error, self._settings)
        newborn.set_child_subreaper(False)
        _hold_standard_files()
        logs.end_all()
        if reason := before.unfit():
            self._give_up(reason)
        return serve

    def _try_namespaces(self) -> None:
        """See whether a fork will be able to have a /tmp of its own: some machines give no user namespaces."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                newborn.own_temporary(f"{self._rooms}/0", self._shown)
            except OSError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.close(writing)
        failure = os.read(reading, 4096).decode()
        os.close(reading)
        os.waitpid(pid, 0)
        if failure:
            self._give_up(f"a fork cannot have a /tmp of its own here: {failure}")

    def _give_up(self, reason: str) -> NoReturn:
        notify(self._settings, json.dumps({"unfit": reason}).encode() + b"\n")
        os._exit(0)

    def _rest_signals(self) -> None:
        """What the import set is for the replicas: here signals do what they do by default."""
        for number in range(1, _signal.NSIG):
            try:
                handler = _signal.getsignal(number)
                if handler not in (_signal.SIG_DFL, None):
                    _signal.signal(number, _signal.SIG_IGN if number == _signal.SIGPIPE else _signal.SIG_DFL)
                    self._signals.append((number, handler))
            except (OSError, ValueError):
                continue  # not one that can be handled

    def _become(self, serve: Serve, message: dict[str, Any], fds: list[int]) -> NoReturn:
        """Be the replica: this is the fork."""
        settings = self._settings
        stdout, stderr, settings.listen_fd, settings.notify_fd = fds
        try:
            self._server.leave()
            os.setsid()
            newborn.rename(self._name)
            newborn.set_child_subreaper(True)  # what the handler daemonises stays below it until it ends
            newborn.place((stdout, stderr))
            _set_expendable(0)
            if message["room"]:
                newborn.own_temporary(message["room"], self._shown)
            elif message["temporary"]:
                newborn.move_home(self._temporary, message["temporary"])
            if hostname := message.get("hostname"):
                os.environ["HOSTNAME"] = hostname
            for number, handler in self._signals:
                _signal.signal(number, handler)
            reseed.renew(self._generators)
        except BaseException as error:
            fail(LoadFailed(f"cannot start (fork of the zygote): {error}"), settings)
        run(serve, settings)


def _hold_standard_files() -> None:
    """An import may have closed some of 0 to 2: the files of a fork may not get those numbers on their way."""
    while (fd := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= 2:
        continue
    os.close(fd)


def _set_expendable(score: int) -> None:
    """Set how soon the kernel takes this process when memory is short (proc(5), oom_score_adj)."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # changed its user without an exec, or no /proc: it is one like the others
    try:
        os.write(fd, b"%d" % score)
    except OSError:
        return
    finally:
        os.close(fd)
