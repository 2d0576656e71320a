"""The exporting process as its owner sees it: started, started again when it dies, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from telemetry.exporting import LAST_S, Report

log = logging.getLogger("pinnace.telemetry")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
STEADY_AFTER_S: Final = 60.0
PACKAGES: Final = Path(__file__).resolve().parents[1]
_PROGRAM: Final = "import sys; sys.path.append(sys.argv.pop()); from telemetry.exporting import main; main()"
_decoder: Final = msgspec.json.Decoder(Report)


class SpanExport:
    """Keeps a process that exports what comes to the Unix socket `path`, while entered. `environment` is added to its own."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self._environment = {**os.environ, **environment}
        self._earlier = Report()
        self._latest = Report()
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    async def __aenter__(self) -> Self:
        self._listener.bind(str(self.path))
        self.path.chmod(0o600)
        self._listener.listen(64)
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        process = self._process
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), LAST_S + 1.0)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def report(self) -> Report:
        """What became of spans, over all processes that there were."""
        earlier, latest = self._earlier, self._latest
        return Report(earlier.exported + latest.exported, earlier.dropped + latest.dropped, earlier.failed + latest.failed)

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                how = await self._run()
            except OSError as error:
                how = f"cannot be started: {error.strerror or error}"
            self._earlier, self._latest = self.report, Report()
            if time.monotonic() - began >= STEADY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            log.error("the process that exports spans %s; another one starts in %g s", how, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _run(self) -> str:
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-c",
                _PROGRAM,
                str(self._listener.fileno()),
                str(writing),
                str(PACKAGES),
                pass_fds=(self._listener.fileno(), writing),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        try:
            while line := await reader.readline():
                with contextlib.suppress(msgspec.MsgspecError):
                    self._latest = _decoder.decode(line)
        finally:
            transport.close()
        return f"ended with code {await self._process.wait()}"
