from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cli import roles
from cli.roles import Life, cannot_listen, url_of


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("fd00::1", "http://[fd00::1]:80"),
    ],
)
def test_the_address_that_is_printed_works_on_this_machine(host: str, url: str) -> None:
    assert url_of(host, 80) == url


async def test_a_port_in_use_is_told_in_a_few_words() -> None:
    loop = asyncio.get_running_loop()
    taken = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="while attempting to bind") as caught:
            await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
    told = str(cannot_listen(f"http://127.0.0.1:{port}", caught.value))
    assert told == f"cannot listen on http://127.0.0.1:{port}: Address already in use; choose another with --port"


async def test_the_control_socket_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(app: ASGIApp, uds: str) -> contextlib.AbstractAsyncContextManager[None]:
        bound.append(Path(uds).parent.stat().st_mode & 0o777)
        return uvicorn(app, uds=uds)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    bound: list[int] = []
    uvicorn, path = roles.uvicorn_server, tmp_path / "control.sock"
    monkeypatch.setattr(roles, "uvicorn_server", serve)
    async with roles._control_server(app, path):
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
    assert bound == [0o700]
    assert list(tmp_path.iterdir()) == []


async def test_a_part_that_ends_by_itself_ends_the_platform_badly() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    life = Life()
    task = asyncio.create_task(fails())
    task.add_done_callback(life.part_ended)
    async with asyncio.timeout(5):
        await life.over.wait()
    assert life.code == 1


async def test_a_part_that_is_cancelled_is_no_failure() -> None:
    life = Life()
    task = asyncio.create_task(asyncio.sleep(60))
    task.add_done_callback(life.part_ended)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert not life.over.is_set()
