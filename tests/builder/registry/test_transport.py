from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.registry import transport as module
from builder.registry.errors import RegistryError, RegistryUnreachable, TransferBroken
from builder.registry.transport import Transport, host_of, origin_of
from tests.builder.registry.fake_registry import FakeRegistry, Handler, on

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def ok(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"ok")


@contextlib.contextmanager
def tls_server(certificate: Path, answer: Answer) -> Iterator[str]:
    """A server with that certificate and key; yields its `localhost:PORT`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that only itself vouches for, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not here (apt-get install openssl)")
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def get(url: str, transport: Transport | None = None, **headers: str) -> tuple[int, bytes]:
    with contextlib.ExitStack() as stack:
        transport = transport or stack.enter_context(Transport(silence_s=5))
        with transport.exchange("GET", url, headers) as answer:
            return answer.status, answer.read()


def test_a_certificate_that_nobody_vouches_for_is_told(certificate: Path) -> None:
    with (
        tls_server(certificate, ok) as host,
        pytest.raises(RegistryUnreachable, match=r"its certificate is not trusted: .*SSL_CERT_FILE"),
    ):
        get(f"https://{host}/v2/")


def test_an_authority_of_ones_own_is_named_by_a_variable(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with tls_server(certificate, ok) as host:
        assert get(f"https://{host}/v2/") == (200, b"ok")
        port = host.rpartition(":")[2]
        with pytest.raises(RegistryUnreachable, match="its certificate is not trusted"):
            get(f"https://127.0.0.1:{port}/v2/")  # it is another name's


def test_a_redirect_out_of_tls_is_not_followed(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, server: FakeRegistry
) -> None:
    def away(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"http://{server.host}/v2/a/blobs/x")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with tls_server(certificate, away) as host, pytest.raises(RegistryError, match="without TLS, which is not followed"):
        get(f"https://{host}/v2/", Authorization="Basic c2VjcmV0")
    assert server.requests == []


def test_a_connection_is_kept(server: FakeRegistry) -> None:
    server.referrers_api = True
    with Transport() as transport:
        for _ in range(3):
            get(f"http://{server.host}/v2/a/referrers/sha256:{'a' * 64}", transport)
        assert len(transport._all) == 1


def test_a_kept_connection_that_was_closed_is_made_anew_for_what_changes_nothing(server: FakeRegistry) -> None:
    server.referrers_api = True
    url = f"http://{server.host}/v2/a/referrers/sha256:{'a' * 64}"
    with Transport() as transport:
        get(url, transport)
        server.faults.append(on("GET", "", lambda handler: handler.cut()))
        assert get(url, transport)[0] == 200
        get(url, transport)
        server.faults.append(on("PUT", "", lambda handler: handler.cut()))
        with pytest.raises(TransferBroken), transport.exchange("PUT", url, {}, b"x"):
            pass


def test_a_registry_that_falls_silent_is_told(server: FakeRegistry) -> None:
    released = threading.Event()

    def wait(handler: Handler) -> None:
        released.wait(10)
        handler.cut()

    server.faults.append(on("GET", "", wait))
    with Transport(silence_s=0.05) as transport, pytest.raises(TransferBroken, match="it fell silent"):
        get(f"http://{server.host}/v2/", transport)
    released.set()


def test_an_answer_without_end_is_cut(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_ANSWER_BYTES", 1000)
    server.faults.append(on("GET", "", lambda handler: handler.answer(200, b"x" * 2000)))
    with pytest.raises(RegistryError, match="answers with more than 1000 bytes"):
        get(f"http://{server.host}/v2/")


def test_a_proxy_is_used_where_one_is_set(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def proxy() -> None:
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(1000))
                client.sendall(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=proxy, daemon=True)
        thread.start()
        monkeypatch.setenv("http_proxy", f"http://me:p%40w@127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(RegistryUnreachable):
            get("http://registry.example.com:5000/v2/")
        thread.join(5)
    assert asked[0].startswith(b"CONNECT registry.example.com:5000 HTTP/1.")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@w") in asked[0]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(f"http://{server.host}/v2/x")[0] == 404


def test_a_proxy_that_is_not_there_is_named_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:pw@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(RegistryUnreachable) as caught:
        get("http://registry.invalid/v2/")
    told = "the registry registry.invalid cannot be reached (through the proxy 127.0.0.1:1): Connection refused"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.com/x", ("https", "example.com", 443)),
        ("http://example.com", ("http", "example.com", 80)),
        ("http://example.com:8080/y?z", ("http", "example.com", 8080)),
    ],
)
def test_what_credentials_belong_to(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(url) == origin


def test_messages_name_hosts_only() -> None:
    assert host_of("https://user:secret@example.com:5000/x?token=1") == "example.com:5000"
