"""The acceptor: what comes to `/async-function/…` arrives here from the edges, as HTTP/1.1: over a Unix socket, or without
one where the edge is in this process (`gateway/edge/inside`).

A submission is answered 202 when the store has it, not before. Whoever knows a call's id may read what became of it and
cancel it: an id has 74 random bits of the platform's, unless the client chose it.

    POST /async-function/NAME/path?query      submit (any method)
    GET /async-function/ID?wait=30s           what is known of the call, once it has ended or the time is over
    GET /async-function/ID/result?wait=30s    what the function answered, as it answered it
    DELETE /async-function/ID                 cancel
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from gateway.asynchronous.calls import Call, Headers, Receipt, State, Submission
from gateway.asynchronous.edge_connection import EdgeConnection
from gateway.asynchronous.fingerprint import differs, marked
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.gathering import Gathering, Submitter
from gateway.asynchronous.pace import UNKNOWN_S
from gateway.asynchronous.refusals import another_request, full, not_accepted, without_places
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.store import Bounds, QueueFull, Store, StoreUnavailable
from gateway.edge.private_socket import private_socket
from gateway.edge.refusal import Refusal

log = logging.getLogger("pinnace.async")

SAY_APART_S: Final = 10.0


class Acceptor:
    """Listens on `path` while entered. `cancelled(call id)` is told of calls that were cancelled, `follow(call)` says what is
    to be submitted along with that; `check` looks at a submission's headers, and raises ValueError to refuse it;
    `room_in_s(queue)` says in how many seconds one that is full has room."""

    def __init__(
        self,
        path: Path,
        store: Store,
        functions: Functions,
        settings: AsyncSettings,
        *,
        cancelled: Callable[[str], None] = lambda call_id: None,
        follow: Callable[[Call], Sequence[Submission]] = lambda call: (),
        check: Callable[[Headers], None] = lambda headers: None,
        room_in_s: Callable[[str], int] = lambda queue: UNKNOWN_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.functions, self.settings = store, functions, settings
        self.check = check
        self._cancelled, self._follow = cancelled, follow
        self._room_in_s = room_in_s
        self.clock = clock
        self.connections: set[EdgeConnection] = set()
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Task[Call | None]] = set()
        self._dismissed = False
        self._unsaid = 0
        self._quiet_until = 0.0
        self._gathering = Gathering(self._keep, self._refusal, self.begin)

    async def __aenter__(self) -> Self:
        bound = private_socket(self._path)
        self._server = await asyncio.get_running_loop().create_unix_server(self.accept, sock=bound, backlog=2048)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.close()
        while self._tasks or self.connections:
            await asyncio.gather(*self._tasks, asyncio.sleep(0), return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def accept(self) -> asyncio.Protocol:
        """Return what serves a new connection of an edge's. Raises ConnectionRefusedError while nothing is accepted."""
        if self._server is None or not self._server.is_serving():
            raise ConnectionRefusedError("the acceptor takes no connections")
        return EdgeConnection(self)

    def complain(self, why: str) -> None:
        """Say that calls are not accepted, once for many: a disk that is full would be filled by saying so."""
        self._unsaid += 1
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + SAY_APART_S
            log.error("asynchronous calls are not accepted (%d since this was said last): %s", self._unsaid, why)
            self._unsaid = 0

    def dismiss(self) -> None:
        """Answer those who wait for a call's end with how it stands: the platform ends."""
        self._dismissed = True
        for wait in self._waits:
            wait.cancel()

    async def ended(self, call_id: str, timeout_s: float) -> Call | None:
        """Return a call once it has ended, or as it is after `timeout_s` and when those who wait are dismissed."""
        if timeout_s <= 0 or self._dismissed:
            return await self.store.get(call_id)
        wait = asyncio.create_task(self.store.ended(call_id, timeout_s))
        self._waits.add(wait)
        try:
            await asyncio.wait([wait])
        finally:
            self._waits.discard(wait)
            wait.cancel()
        return await self.store.get(call_id) if wait.cancelled() else wait.result()

    async def cancel(self, call_id: str) -> State | None:
        """Cancel an open call; return the state in which it was found, None where it is not known. Raises StoreUnavailable."""
        call = await self.store.get(call_id)
        then = self._follow(call) if call is not None and not call.state.ended else ()
        state = await self.store.cancel(call_id, self.clock(), then=then)
        if state is not None and not state.ended:
            self._cancelled(call_id)
        return state

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let something go on that the acceptor's end waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the acceptor of asynchronous calls failed", exc_info=error)

    def bounds(self, queue: str) -> Bounds:
        """Return what may wait in a queue."""
        return self.functions.bounds(queue, self.settings.bounds)

    async def submit(self, wanted: Submission, body: bytes | Path) -> tuple[str, Refusal | None]:
        """Keep a call; return its id, or why it was not kept."""
        submission = msgspec.structs.replace(wanted, body=body)
        try:
            if submission.idempotency_key:
                submission = await marked(submission)
            (receipt,) = await self._keep([submission])
            if receipt.repeated and differs(await self.store.get(receipt.id), submission):
                return "", another_request(submission)
        except (QueueFull, StoreUnavailable) as error:
            return "", self._refusal(error, wanted)
        except OSError as error:
            self.complain(f"{self.store.spool}: {error.strerror}")
            return "", not_accepted(error.strerror or str(error))
        return receipt.id, None

    def submit_soon(self, wanted: Submission, submitter: Submitter) -> None:
        """Keep a call whose body is short and that has no idempotency key, along with others that come now."""
        self._gathering.add(wanted, submitter)

    async def _keep(self, wanted: Sequence[Submission]) -> list[Receipt]:
        return await self.store.submit(wanted, self.clock(), self.bounds)

    def _refusal(self, error: QueueFull | StoreUnavailable, wanted: Submission) -> Refusal:
        if isinstance(error, QueueFull):
            return full(str(error), self._room_in_s(wanted.queue))
        self.complain(str(error))
        return not_accepted(self.said(error))

    def said(self, error: StoreUnavailable) -> str:
        """Return what anybody may be told of why the store cannot be used."""
        return without_places(str(error), self.store.spool.parent)
