"""One edge process as the control process holds it: started, spoken to over its link, ended."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.edge.link import Link
from gateway.edge.messages import Drain, Drained, FromEdge, Ping, Pong

PACKAGES: Final = Path(__file__).resolve().parents[2]
ENDED_WITHIN_S: Final = 1.0
_PROGRAM: Final = "import sys; sys.path.append(sys.argv.pop()); from gateway.edge.worker import main; main()"
_decoder: Final = msgspec.msgpack.Decoder(FromEdge)


class EdgeProcess:
    """The process of the edge `name`. `listening` is set by its owner, `heard_at` is when it last said something (monotonic
    seconds)."""

    def __init__(self, name: str, on_message: Callable[[EdgeProcess, FromEdge], None]) -> None:
        self.name = name
        self.listening = False
        self.heard_at = time.monotonic()
        self.lost = asyncio.Event()
        self._on_message = on_message
        self._drained: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._pinged = 0
        self._link = Link(_decoder, self._hear, self._end_of_link)
        self._process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def start(self) -> None:
        """Start the process. Raises OSError when there can be no more processes or files."""
        ours = self._spawn()
        try:
            await self._link.open(ours)
        except BaseException:
            ours.close()
            self._process.kill()
            self._process.wait()
            raise

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(PACKAGES)],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the control process
                )
            except OSError:
                ours.close()
                raise
        return ours

    def send(self, message: msgspec.Struct) -> None:
        """Tell it something."""
        self._link.send(message)

    def send_frame(self, data: bytes) -> None:
        """Tell it what `link.frame` made."""
        self._link.send_frame(data)

    def ping(self) -> None:
        """Let it say something."""
        self._link.send(Ping(0))

    async def done(self) -> None:
        """Return when it has done all that it was told until now, or has ended."""
        if self.lost.is_set():
            return
        self._pinged += 1
        pong = self._pings[self._pinged] = asyncio.get_running_loop().create_future()
        self._link.send(Ping(self._pinged))
        await pong

    async def drain(self, timeout_s: float) -> bool:
        """Let it finish its calls. Returns whether it could in time; one that died has broken them."""
        if self.lost.is_set():
            return False
        self._link.send(Drain(timeout_s))
        return await asyncio.shield(self._drained)

    def kill(self) -> None:
        """End it at once: it does not react."""
        self._process.kill()

    async def end(self) -> str:
        """End it and wait until it has; returns how it ended, in words."""
        await self._link.close()
        status = await asyncio.to_thread(self._wait)
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exited with status {status}"

    def _wait(self) -> int:
        try:
            return self._process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _hear(self, message: FromEdge) -> None:
        self.heard_at = time.monotonic()
        match message:
            case Pong(number):
                if (pong := self._pings.pop(number, None)) is not None and not pong.done():
                    pong.set_result(None)
            case Drained(whole):
                if not self._drained.done():
                    self._drained.set_result(whole)
            case _:
                self._on_message(self, message)

    def _end_of_link(self) -> None:
        self.lost.set()
        for pong in self._pings.values():
            if not pong.done():
                pong.set_result(None)
        self._pings.clear()
        if not self._drained.done():
            self._drained.set_result(False)
