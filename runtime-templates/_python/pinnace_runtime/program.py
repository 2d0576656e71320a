"""One run of a program: started with its input in place, read until it ends or its time is up, and nothing left of it.

`posix_spawn` starts it without a copy of this process's page tables (vfork inside), in a process group of its own. Its
end is seen by a pidfd, not by the end of its output: a background process that it left behind may hold that open.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from pinnace_runtime.spool import File

READ_BYTES = 64 * 1024
PIPE_BYTES = 64 * 1024
MOST_READS = 17  # a pipe holds 1 MiB at most (pipe(7)); a daemon that left the group may write for ever

_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and a program would inherit that


class ProgramFailed(Exception):
    """The program did not end with code 0; the message says how it did."""


class TimeIsUp(Exception):
    """The program took longer than it may, and was killed."""


class Program:
    """A program that runs now. `words` are its path and arguments, `limit_s` what it may take.

    Raises OSError when it cannot be started, ValueError for a NUL in its environment.
    """

    def __init__(
        self,
        words: list[str],
        environment: Mapping[bytes, bytes],
        body: bytes | File,
        limit_s: float,
        *,
        combine_output: bool,
    ) -> None:
        self._deadline = time.monotonic() + limit_s
        self._limit_s = limit_s
        files: list[int] = []
        try:
            stdin = _input(body, files)
            out, stdout = os.pipe()
            files += (out, stdout)
            if combine_output:
                err, stderr = -1, stdout
            else:
                err, stderr = os.pipe()
                files += (err, stderr)
            self._pid = os.posix_spawn(
                words[0],
                words,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, stdout, 1),
                    (os.POSIX_SPAWN_DUP2, stderr, 2),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
            try:
                self._pidfd = os.pidfd_open(self._pid)
            except BaseException:
                os.killpg(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                raise
        except BaseException:
            for fd in files:
                os.close(fd)
            raise
        for fd in files:
            if fd not in (out, err):
                os.close(fd)
        self._out = out
        self._err = err

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield what it writes, as it writes it, until it has ended; close the iterator to end it sooner.

        Raises ProgramFailed when it fails, and TimeIsUp.
        """
        poll = select.poll()
        for fd in (self._out, self._err, self._pidfd):
            if fd >= 0:
                os.set_blocking(fd, False)
                poll.register(fd, select.POLLIN)
        try:
            while True:
                events = poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000 + 1)
                if not events:
                    raise TimeIsUp(f"fprocess took longer than exec_timeout, {self._limit_s:g} s, and was killed")
                ready = [fd for fd, _ in events]
                if self._pidfd in ready:
                    break
                for fd in ready:
                    data = _read(fd)
                    if data:
                        yield from self._take(fd, data)
                    elif data is not None:
                        poll.unregister(fd)
            self._kill()
            for fd in (self._out, self._err):
                for _ in range(MOST_READS if fd >= 0 else 0):
                    if not (data := _read(fd)):
                        break
                    yield from self._take(fd, data)
        finally:
            code = self._end()
        if code:
            raise ProgramFailed(_how(code))

    def _take(self, fd: int, data: bytes) -> Iterator[bytes]:
        if fd == self._out:
            yield data
        else:
            sys.stderr.buffer.write(data)

    def _kill(self) -> None:
        """End its process group. Its number is nobody else's before it is reaped."""
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nothing is left of the group

    def _end(self) -> int:
        """See to it that nothing of it is left, and return its exit code, below 0 for a signal."""
        self._kill()
        _, status = os.waitpid(self._pid, 0)
        for fd in (self._out, self._err, self._pidfd):
            if fd >= 0:
                os.close(fd)
        return os.waitstatus_to_exitcode(status)


def _input(body: bytes | File, files: list[int]) -> int:
    """Return a descriptor that yields the body, and add what is to be closed to `files`."""
    if not isinstance(body, bytes):
        os.lseek(body.fd, 0, os.SEEK_SET)
        return body.fd
    if not body:
        null = os.open(os.devnull, os.O_RDONLY)
        files.append(null)
        return null
    if len(body) <= PIPE_BYTES:
        reading, writing = os.pipe()
        files.append(reading)
        try:
            os.set_blocking(writing, False)
            if os.write(writing, body) == len(body):
                return reading
        except BlockingIOError:
            pass  # a user with many pipes gets small ones (pipe(7), pipe-user-pages-soft)
        finally:
            os.close(writing)
    memory = os.memfd_create("body", os.MFD_CLOEXEC)
    files.append(memory)
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(memory, rest) :]
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def _read(fd: int) -> bytes | None:
    """Return what there is, b"" at the end, None when there is nothing now."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None


def _how(code: int) -> str:
    if code > 0:
        return f"fprocess ended with exit code {code}"
    try:
        return f"fprocess was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"fprocess was killed by signal {-code}"
