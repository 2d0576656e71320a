from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cli import http_server
from cli.http_server import control_server, listener_of
from cli.process import CannotServe
from cli.settings import ServeSettings


async def test_the_control_socket_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(app: ASGIApp, uds: str) -> contextlib.AbstractAsyncContextManager[None]:
        bound.append(Path(uds).parent.stat().st_mode & 0o777)
        return uvicorn(app, uds=uds)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    bound: list[int] = []
    uvicorn, path = http_server.uvicorn_server, tmp_path / "control.sock"
    monkeypatch.setattr(http_server, "uvicorn_server", serve)
    async with control_server(app, path):
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
    assert bound == [0o700]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_port_is_listened_on_by_one(host: str, family: socket.AddressFamily) -> None:
    with listener_of(ServeSettings(host=host, port=0)) as listener:
        assert listener.family == family
        port = listener.getsockname()[1]
        with pytest.raises(CannotServe, match=f":{port}: Address already in use; choose another with --port$"):
            listener_of(ServeSettings(host=host, port=port))
