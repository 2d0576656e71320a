from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cli.api import Gateway, Reply, reason_of
from cli.credentials import Login
from cli.errors import GatewayRefused, GatewayUnreachable, NotLoggedIn
from tests.cli.stub_gateway import Gateway as Stub


def test_the_login_goes_along_but_not_to_functions(gateway: Stub) -> None:
    gateway.login = ("admin", "pa:ss")
    client = Gateway(gateway.url, Login("admin", "pa:ss"))
    assert client.call("GET", "/system/functions").json() == []
    with client.stream("POST", "/function/none", body=b"", login=False) as reply:
        assert reply.status == 404
    assert "authorization" not in gateway.asked[-1].headers


def test_a_login_that_is_missing_or_wrong_says_what_to_type(gateway: Stub) -> None:
    gateway.login = ("admin", "x")
    with pytest.raises(NotLoggedIn, match=f"log in: faas login -g {gateway.url}"):
        Gateway(gateway.url).call("GET", "/system/functions")
    with pytest.raises(NotLoggedIn, match="not accepted"):
        Gateway(gateway.url, Login("admin", "y")).call("GET", "/system/functions")


def test_queries_leave_out_what_is_not_given_and_names_are_quoted(gateway: Stub) -> None:
    gateway.canned["GET /function/a%20b/ü".replace("ü", "%C3%BC")] = (200, {}, b"ok")
    with Gateway(gateway.url).stream("GET", "/function/a b/ü", query={"a": "x&y", "b": "", "c": None, "d": 0}) as reply:
        assert reply.read() == b"ok"
    assert gateway.asked[-1].query == {"a": "x&y", "d": "0"}


def test_the_path_of_the_address_comes_first(gateway: Stub) -> None:
    gateway.canned["GET /base/healthz"] = (200, {}, b"")
    assert Gateway(f"{gateway.url}/base").call("GET", "/healthz").status == 200


@pytest.mark.parametrize("length", [None, 9])
def test_a_body_in_pieces_arrives_whole(gateway: Stub, length: int | None) -> None:
    gateway.canned["POST /function/echo"] = (200, {}, b"")
    headers = {"Content-Length": str(length)} if length else {}
    with Gateway(gateway.url).stream("POST", "/function/echo", body=iter([b"one", b"two", b"six"]), headers=headers):
        pass
    assert gateway.asked[-1].body == b"onetwosix"
    assert (gateway.asked[-1].headers.get("transfer-encoding") == "chunked") == (length is None)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b"bad name\nmore", "bad name (HTTP 400)"),
        (500, b"", "Internal Server Error (HTTP 500)"),
        (502, b"<html><body>", "Bad Gateway (HTTP 502)"),
        (409, b'{"message": "it exists"}', "it exists (HTTP 409)"),
        (400, b'{"x": 1}', '{"x": 1} (HTTP 400)'),
        (400, b"{broken", "{broken (HTTP 400)"),
        (400, b"a\x1b[31mb", "a [31mb (HTTP 400)"),
    ],
)
def test_why_a_gateway_refuses_is_one_line(status: int, body: bytes, reason: str) -> None:
    assert reason_of(Reply(status, {}, body)) == reason


def test_a_gateway_that_has_moved_says_where_to() -> None:
    reason = reason_of(Reply(308, {"location": "https://gw/system"}, b"<html>"))
    assert reason == "it has moved to https://gw/system; pass that with --gateway (HTTP 308)"


def test_an_answer_that_is_not_json_is_no_gateways(gateway: Stub) -> None:
    gateway.canned["GET /system/functions"] = (200, {}, b"<html>hello")
    with pytest.raises(GatewayRefused, match="not JSON: <html>hello"):
        Gateway(gateway.url).call("GET", "/system/functions").json()


def test_no_gateway_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(GatewayUnreachable) as caught:
        Gateway(f"http://127.0.0.1:{port}").call("GET", "/healthz")
    assert str(caught.value) == (
        f'no gateway answers at http://127.0.0.1:{port}: start one with ./scripts/start or "faas serve", or pass --gateway'
    )


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(GatewayUnreachable, match=r"the name nowhere\.invalid is not known"):
        Gateway("http://nowhere.invalid").call("GET", "/healthz")


@contextmanager
def answering(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose one connection is treated by `behave`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join(5)


def test_silence_has_a_limit() -> None:
    done = threading.Event()
    with answering(lambda connection: (done.wait(5), None)[1]) as url:
        with pytest.raises(GatewayUnreachable, match=r"was silent for 0\.05 s"):
            Gateway(url).call("GET", "/healthz", timeout_s=0.05)
        done.set()


def replying(data: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return behave


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "closed the connection before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", "before its answer was complete"),
        (b"SSH-2.0-OpenSSH\r\n", "is not a gateway"),
    ],
)
def test_a_broken_answer_is_named(answer: bytes, message: str) -> None:
    with answering(replying(answer)) as url, pytest.raises(GatewayUnreachable, match=message):
        Gateway(url).call("GET", "/healthz")


def test_an_answer_before_the_whole_body_was_read_is_heard() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\n\r\ntoo big")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    pieces = (b"x" * 65536 for _ in range(20))
    with answering(refuse) as url, Gateway(url).stream("POST", "/build", body=pieces) as reply:
        assert (reply.status, reply.read()) == (413, b"too big")


def test_lines_arrive_one_by_one() -> None:
    more = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\none\ntw\r\n")
        assert more.wait(5)
        connection.sendall(b"2\r\no\n\r\n5\r\nthree\r\n0\r\n\r\n")

    with answering(behave) as url, Gateway(url).stream("GET", "/system/logs") as reply:
        lines = reply.lines()
        assert next(lines) == b"one"
        more.set()
        assert list(lines) == [b"two", b"three"]


def test_tls_is_checked(gateway: Stub) -> None:
    with (
        answering(replying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url,
        pytest.raises(GatewayUnreachable, match="no TLS with"),
    ):
        Gateway(url.replace("http:", "https:")).call("GET", "/healthz")
