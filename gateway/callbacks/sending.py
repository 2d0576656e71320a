"""One attempt to send a callback: to an address that was looked at, and to no other.

The name is resolved once, every address that it has is asked about, and the connection goes to one of those that may be: a
name that resolves to something else a moment later changes nothing. Redirects are not followed, proxies of the environment are
not used, and of the answer only the head counts: its body is let go, so that nobody reads through the platform what stands
behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import h11
import msgspec

from gateway.callbacks.addresses import Address, literal
from gateway.callbacks.target import Guard, InvalidCallback, Target, refusal

CONNECT_WITHIN_S: Final = 10.0
ADDRESS_WITHIN_S: Final = 4.0
"""For each address, so that one which swallows packets leaves time for another."""
ANSWER_WITHIN_S: Final = 30.0
LONGEST_HEAD_BYTES: Final = 16 * 1024
LINGER_S: Final = 0.2
MOST_ADDRESSES: Final = 3
LOOKUPS: Final = 8

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as text. Raises OSError."""


class Answer(msgspec.Struct, frozen=True):
    """What came of an attempt: the receiver's `status`, or 0 and the `reason` why there is none. `refused`: it may not go
    there. `retry_after` is that header."""

    status: int = 0
    reason: str = ""
    retry_after: str = ""
    refused: bool = False

    @property
    def taken(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300


class Sender:
    """Sends where `guard` permits. `resolve` is the system's resolver unless a test has another; `trust` are the
    certificates that count, the system's where it is None."""

    def __init__(self, guard: Guard, resolve: Resolve | None = None, trust: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._resolve = resolve or self._look_up
        self._trust = trust
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def send(
        self, url: str, headers: Sequence[tuple[str, str]], body: Callable[[], AsyncIterator[bytes]], size: int
    ) -> Answer:
        """POST `size` bytes of `body` to `url`, within ANSWER_WITHIN_S, and return what came of it; raises nothing that the
        network or the receiver does."""
        try:
            target = self._guard.check(url)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    reader, writer = await self._connect(target)
                try:
                    return await _exchange(reader, writer, target, headers, body, size)
                finally:
                    writer.transport.abort()
        except InvalidCallback as error:
            return Answer(reason=str(error), refused=True)
        except TimeoutError:
            return Answer(reason="no answer in time")
        except ssl.SSLError as error:
            return Answer(reason=f"no secure connection: {getattr(error, 'verify_message', '') or error.reason or error}")
        except OSError as error:
            return Answer(reason=f"cannot connect: {error.strerror or error}")
        except h11.RemoteProtocolError as error:
            return Answer(reason=f"the answer is not HTTP: {error}")
        except h11.LocalProtocolError as error:
            return Answer(reason=f"it cannot be sent: {error}", refused=True)

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await self._addresses(target)
        if target.secure and self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)  # 40 ms
        failure: OSError | None = None
        for address in addresses[:MOST_ADDRESSES]:
            try:
                async with asyncio.timeout(ADDRESS_WITHIN_S):
                    return await asyncio.open_connection(
                        str(address),
                        target.port,
                        limit=LONGEST_HEAD_BYTES,
                        ssl=self._trust if target.secure else None,
                        server_hostname=target.host if target.secure else None,
                        flags=socket.AI_NUMERICHOST,
                    )
            except OSError as error:  # TimeoutError is one
                failure = error
        assert failure is not None
        raise failure

    async def _look_up(self, host: str, port: int) -> list[str]:
        """Ask the system's resolver, in a thread that nobody waits for: a name that a stranger chose may take its time, which
        neither other work nor the end of the process is to wait for. There are at most LOOKUPS of them."""
        await self._lookups.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def settle(addresses: list[str], error: OSError | None) -> None:
            self._lookups.release()
            if found.done():  # whoever asked has left
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look_up() -> None:
            addresses: list[str] = []
            failure = None
            try:
                addresses = [str(at[0]) for *_, at in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            except OSError as error:
                failure = error
            except UnicodeError:  # a label that is too long
                failure = OSError(0, f"{host} is no name")
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, addresses, failure)

        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        return await found

    async def _addresses(self, target: Target) -> list[Address]:
        """Return the addresses of the target that may be. Raises InvalidCallback when none is, OSError when it has none."""
        given = literal(target.host)
        texts = [str(given)] if given is not None else await self._resolve(target.host, target.port)
        found = [ipaddress.ip_address(text.partition("%")[0]) for text in dict.fromkeys(texts)]
        if not found:
            raise OSError(0, f"{target.host} has no address")
        allowed = [address for address in found if self._guard.permits(target, address)]
        if not allowed:
            raise InvalidCallback(refusal(target, found[0]))
        return allowed


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: Target,
    headers: Sequence[tuple[str, str]],
    body: Callable[[], AsyncIterator[bytes]],
    size: int,
) -> Answer:
    """Send the request and return the head of the answer. A receiver may answer before it has all, and close."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD_BYTES)
    fields = [("Host", target.authority), *headers, ("Content-Length", str(size)), ("Connection", "close")]
    request = h11.Request(
        method="POST", target=target.path, headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields]
    )
    head = connection.send(request)

    async def send_all() -> None:
        writer.write(head)
        async for piece in body():
            writer.write(connection.send(h11.Data(data=piece)))
            await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()))
        await writer.drain()

    sending, answering = asyncio.ensure_future(send_all()), asyncio.ensure_future(_answer(reader, connection))
    try:
        await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done() and not isinstance(sending.exception(), OSError | None):
            sending.result()  # the body could not be read, or is not as long as was said
        return await answering
    finally:
        for task in (sending, answering):
            task.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)


async def _answer(reader: asyncio.StreamReader, connection: h11.Connection) -> Answer:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            piece = await reader.read(LONGEST_HEAD_BYTES)
            connection.receive_data(piece)
            if not piece and connection.their_state is h11.SEND_RESPONSE:
                raise h11.RemoteProtocolError("the connection ended before the answer")
        elif isinstance(event, h11.Response):
            retry_after = next((value for name, value in event.headers if name == b"retry-after"), b"")
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(reader.read(LONGEST_HEAD_BYTES), LINGER_S)  # so that the receiver is not cut off
            return Answer(event.status_code, retry_after=retry_after.decode("latin-1"))
