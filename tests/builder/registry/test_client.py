from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.oci.documents import (
    EMPTY,
    INDEX,
    LAYER,
    MANIFEST,
    Descriptor,
    Index,
    InvalidImage,
    Manifest,
    descriptor_of,
    encode,
)
from builder.oci.layout import Layout
from builder.registry.client import FIRST_PAUSE_S, LONGEST_PAUSE_S, MOST_TRIES, Registry, referrers_tag
from builder.registry.credentials import Credentials
from builder.registry.errors import NotAuthorized, NotInRegistry, RegistryError, RegistryUnreachable, TransferBroken
from builder.registry.transport import Transport
from tests.builder.registry.conftest import Connect
from tests.builder.registry.fake_registry import FakeRegistry, Fault, Handler, on

CONTENT = b"0123456789" * 100
BLOB = descriptor_of(CONTENT, LAYER)
LOGIN = Credentials("user", "secret")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "layout")
    layout.add(CONTENT, LAYER)
    return layout


def pulled(registry: Registry, layout: Layout, blob: Descriptor = BLOB) -> Descriptor:
    with layout.new_blob() as new:
        registry.pull_blob("team/app", blob, new)
        return new.commit(blob.media_type, blob)


def keep(server: FakeRegistry, content: bytes = CONTENT, repository: str = "team/app") -> None:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    server.blobs[digest] = content
    server.has.add((repository, digest))


def cut(handler: Handler) -> None:
    handler.cut()


def cut_in_the_middle(handler: Handler) -> None:
    """Take half of the body, then hang up."""
    handler.rfile.read(int(handler.headers["Content-Length"]) // 2)
    handler.cut()


class TestPush:
    def test_a_small_blob_goes_in_one_request(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        registry = connect()
        assert registry.push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "sent"
        assert server.blobs[BLOB.digest] == CONTENT
        assert [method for method, _, _ in server.requests] == ["HEAD", "POST", "PUT"]

    def test_what_is_there_is_not_sent(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        keep(server)
        assert connect().push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "there"
        assert [method for method, _, _ in server.requests] == ["HEAD"]

    def test_what_another_repository_has_is_mounted(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        keep(server, repository="library/python")
        assert connect().push_blob("team/app", BLOB, layout.path(BLOB.digest), "library/python") == "mounted"
        assert ("team/app", BLOB.digest) in server.has
        assert not server.asked("PUT")

    def test_what_cannot_be_mounted_is_sent(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        assert connect().push_blob("team/app", BLOB, layout.path(BLOB.digest), "library/python") == "sent"

    def test_a_large_blob_goes_in_chunks(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        assert connect(chunk_bytes=300).push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "sent"
        ranges = [headers["Content-Range"] for method, _, headers in server.requests if method == "PATCH"]
        assert ranges == ["0-299", "300-599", "600-899", "900-999"]
        assert server.blobs[BLOB.digest] == CONTENT

    def test_a_broken_upload_goes_on_where_it_broke(
        self, server: FakeRegistry, connect: Connect, layout: Layout, pauses: list[float]
    ) -> None:
        server.faults.append(Fault(lambda handler: handler.headers.get("Content-Range") == "600-899", cut_in_the_middle))
        assert connect(chunk_bytes=300).push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "sent"
        assert server.blobs[BLOB.digest] == CONTENT
        ranges = [headers.get("Content-Range") for _, _, headers in server.requests]
        assert ranges.count("0-299") == 1  # what had arrived was not sent again
        assert len(pauses) == 1

    def test_an_upload_that_the_registry_forgot_begins_anew(
        self, server: FakeRegistry, connect: Connect, layout: Layout
    ) -> None:
        def forget(handler: Handler) -> None:
            server.uploads.clear()
            handler.cut()

        server.faults.append(on("PATCH", "state=600", forget))
        assert connect(chunk_bytes=300).push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "sent"
        assert server.blobs[BLOB.digest] == CONTENT

    def test_a_small_upload_that_broke_is_made_again(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        server.faults.append(on("PUT", "uploads", cut_in_the_middle))
        assert connect().push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "sent"
        assert len(server.asked("POST", "uploads")) == 2

    def test_a_registry_that_always_hangs_up_is_given_up_in_the_end(
        self, server: FakeRegistry, connect: Connect, layout: Layout, pauses: list[float]
    ) -> None:
        server.faults.extend(on("PUT", "uploads", cut) for _ in range(100))
        with pytest.raises(TransferBroken, match=f"{server.host} broke off: it closed the connection"):
            connect().push_blob("team/app", BLOB, layout.path(BLOB.digest))
        assert len(pauses) == MOST_TRIES - 1

    def test_a_registry_that_takes_nothing_is_given_up_in_the_end(
        self, server: FakeRegistry, connect: Connect, layout: Layout, pauses: list[float]
    ) -> None:
        def take_one_byte(handler: Handler) -> None:
            handler.take_body()
            handler.answer(202, Location=handler.path, Range="0-0")

        server.faults.extend(on("PATCH", "uploads", take_one_byte) for _ in range(100))
        with pytest.raises(TransferBroken, match=r"has taken nothing of sha256:.* after byte"):
            connect(chunk_bytes=300).push_blob("team/app", BLOB, layout.path(BLOB.digest))
        assert len(pauses) == MOST_TRIES - 1

    def test_a_damaged_file_is_not_sent(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        layout.path(BLOB.digest).write_bytes(CONTENT[:-1] + b"x")
        with pytest.raises(InvalidImage, match="is damaged: build the image again"):
            connect().push_blob("team/app", BLOB, layout.path(BLOB.digest))
        assert not server.asked("POST")

    def test_a_registry_that_kept_something_else_is_not_believed(
        self, server: FakeRegistry, connect: Connect, layout: Layout
    ) -> None:
        other = f"sha256:{'0' * 64}"

        def wrong(handler: Handler) -> None:
            handler.take_body()
            handler.answer(201, Docker_Content_Digest=other)

        server.faults.append(on("PUT", "uploads", wrong))
        with pytest.raises(InvalidImage, match=f"kept {other} where"):
            connect().push_blob("team/app", BLOB, layout.path(BLOB.digest))

    def test_a_manifest_is_put_by_tag(self, server: FakeRegistry, connect: Connect) -> None:
        content = encode(Index(schema_version=2, media_type=INDEX, manifests=()))
        assert connect().put_manifest("team/app", "v1", content, INDEX) is False
        assert server.manifests["team/app", "v1"] == (INDEX, content)

    @pytest.mark.parametrize("api", [True, False])
    def test_what_refers_to_an_image_is_found_with_and_without_the_api(
        self, server: FakeRegistry, connect: Connect, api: bool
    ) -> None:
        server.referrers_api = api
        registry = connect()
        subject = descriptor_of(b"image", MANIFEST)
        for text in ("one", "two"):
            content = encode(
                Manifest(
                    schema_version=2,
                    media_type=MANIFEST,
                    config=descriptor_of(b"{}", EMPTY),
                    layers=(),
                    subject=subject,
                    annotations={"text": text},
                )
            )
            entry = descriptor_of(content, MANIFEST)
            knows = registry.put_manifest("team/app", entry.digest, content, MANIFEST)
            assert knows is api
            if not knows:
                registry.add_referrer("team/app", subject.digest, entry)
                registry.add_referrer("team/app", subject.digest, entry)  # again is once
        assert len(registry.referrers("team/app", subject.digest)) == 2
        assert (("team/app", referrers_tag(subject.digest)) in server.manifests) is not api


class TestPull:
    def test_a_blob(self, server: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
        keep(server)
        layout = Layout(tmp_path / "other")
        pulled(connect(), layout)
        assert layout.path(BLOB.digest).read_bytes() == CONTENT

    def test_a_pull_that_broke_asks_only_for_the_rest(self, server: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
        keep(server)

        def half(handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(CONTENT)))
            handler.end_headers()
            handler.wfile.write(CONTENT[:400])
            handler.cut()

        server.faults.append(on("GET", "blobs", half))
        pulled(connect(), Layout(tmp_path / "other"))
        assert [headers.get("Range") for _, _, headers in server.requests] == [None, "bytes=400-"]

    def test_wrong_content_is_refused_and_nothing_is_kept(self, server: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
        keep(server)
        server.blobs[BLOB.digest] = b"x" * len(CONTENT)
        layout = Layout(tmp_path / "other")
        with pytest.raises(InvalidImage, match=f"what came is not {BLOB.digest}"):
            pulled(connect(), layout)
        assert list(layout.blobs.iterdir()) == []

    def test_a_blob_that_does_not_end_is_cut_at_its_size(self, server: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
        keep(server)
        server.blobs[BLOB.digest] = CONTENT * 50
        with pytest.raises(InvalidImage, match=f"sends more than the {BLOB.size} bytes"):
            pulled(connect(), Layout(tmp_path / "other"))

    def test_a_manifest_by_digest_must_have_it(self, server: FakeRegistry, connect: Connect) -> None:
        asked = f"sha256:{'1' * 64}"
        server.manifests["team/app", asked] = (MANIFEST, b'{"schemaVersion":2}')
        with pytest.raises(InvalidImage, match=f"where {asked} was asked for"):
            connect().manifest("team/app", asked)

    @pytest.mark.parametrize("content", [b"[]", b"not json", b'{"mediaType": "text/html"}'])
    def test_what_is_no_manifest_is_refused(self, server: FakeRegistry, connect: Connect, content: bytes) -> None:
        server.manifests["team/app", "v1"] = (MANIFEST, content)
        with pytest.raises(InvalidImage):
            connect().manifest("team/app", "v1")


class TestFailures:
    def test_a_manifest_of_endless_brackets_is_refused(self, server: FakeRegistry, connect: Connect) -> None:
        server.manifests["team/app", "v1"] = (MANIFEST, b"[" * 100_000)
        with pytest.raises(InvalidImage, match="is not a JSON object"):
            connect().manifest("team/app", "v1")

    def test_what_is_not_there(self, connect: Connect) -> None:
        with pytest.raises(NotInRegistry, match=r"does not have it: manifest unknown \(HTTP 404\)"):
            connect().manifest("team/app", "v1")

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_failures_of_the_moment_are_tried_again(
        self, server: FakeRegistry, connect: Connect, pauses: list[float], status: int
    ) -> None:
        keep(server)
        server.faults.extend(on("HEAD", "blobs", lambda handler: handler.answer(status)) for _ in range(3))
        assert connect().has_blob("team/app", BLOB)
        assert len(pauses) == 3
        for number, pause_s in enumerate(pauses):
            assert FIRST_PAUSE_S * 2**number / 2 <= pause_s <= FIRST_PAUSE_S * 2**number

    def test_the_registry_says_when_to_come_again(self, server: FakeRegistry, connect: Connect, pauses: list[float]) -> None:
        keep(server)
        server.faults.append(on("HEAD", "blobs", lambda handler: handler.answer(429, Retry_After="3")))
        server.faults.append(on("HEAD", "blobs", lambda handler: handler.answer(429, Retry_After="86400")))
        assert connect().has_blob("team/app", BLOB)
        assert pauses == [3.0, LONGEST_PAUSE_S]

    def test_a_failure_that_lasts_is_told(self, server: FakeRegistry, connect: Connect, pauses: list[float]) -> None:
        server.faults.extend(on("GET", "", lambda h: h.error(503, "X", "too many")) for _ in range(100))
        with pytest.raises(RegistryError, match=r"cannot do it now: too many \(HTTP 503\)"):
            connect().manifest("team/app", "v1")
        assert len(pauses) == MOST_TRIES - 1

    def test_a_body_that_is_too_large(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        server.faults.append(on("PUT", "uploads", lambda handler: handler.error(413, "X", "at most 10 MB")))
        with pytest.raises(RegistryError, match=r"or a proxy in front of it, refuses a body of this size: at most 10 MB"):
            connect().push_blob("team/app", BLOB, layout.path(BLOB.digest))

    def test_what_is_not_allowed(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        server.faults.append(on("POST", "", lambda handler: handler.error(403, "DENIED", "not yours")))
        with pytest.raises(NotAuthorized, match=r"does not allow it: not yours \(HTTP 403\)"):
            connect().push_blob("team/app", BLOB, layout.path(BLOB.digest))

    def test_a_port_where_nothing_listens(self, tmp_path: Path) -> None:
        with Transport() as transport, pytest.raises(RegistryUnreachable, match=r"registry 127.0.0.1:1 cannot be reached"):
            Registry("127.0.0.1:1", transport).manifest("a", "b")

    def test_a_name_that_is_not_known(self) -> None:
        with Transport() as transport, pytest.raises(RegistryUnreachable, match=r"the name is not known \(DNS\)"):
            Registry("registry.invalid", transport).manifest("a", "b")

    def test_no_tls_where_tls_is_wanted(self, server: FakeRegistry) -> None:
        with (
            Transport() as transport,
            pytest.raises(RegistryUnreachable, match=r"no TLS: .*PINNACE_PLAIN_HTTP="),
            transport.exchange("GET", f"https://{server.host}/v2/", {}),
        ):
            pass


class TestLogin:
    def test_basic(self, server: FakeRegistry, connect: Connect) -> None:
        keep(server)
        server.auth = "basic"
        registry = connect(LOGIN)
        assert registry.has_blob("team/app", BLOB)
        assert registry.has_blob("team/app", BLOB)
        assert len(server.requests) == 3  # asked for it once, then sent at once

    def test_a_token_is_asked_for_once(self, server: FakeRegistry, connect: Connect, layout: Layout) -> None:
        server.auth = "bearer"
        registry = connect(LOGIN)
        registry.push_blob("team/app", BLOB, layout.path(BLOB.digest))
        assert registry.has_blob("team/app", BLOB)
        assert server.tokens == 1
        (path,) = server.asked("GET", "/token")
        assert "x=1&service=fake&scope=repository%3Ateam%2Fapp%3Apull%2Cpush" in path

    def test_an_identity_token(self, server: FakeRegistry, connect: Connect) -> None:
        keep(server)
        server.auth = "bearer"
        assert connect(Credentials(identity_token="identity")).has_blob("team/app", BLOB)
        assert server.asked("POST", "/token")

    @pytest.mark.parametrize("auth", ["basic", "bearer"])
    def test_no_login(self, server: FakeRegistry, connect: Connect, auth: str) -> None:
        server.auth = auth
        with pytest.raises(NotAuthorized, match=f"wants a login and none is kept here: docker login {server.host}"):
            connect().manifest("team/app", "v1")

    @pytest.mark.parametrize("auth", ["basic", "bearer"])
    def test_a_wrong_login(self, server: FakeRegistry, connect: Connect, auth: str) -> None:
        server.auth = auth
        with pytest.raises(NotAuthorized, match=r"(does not accept the login|is not accepted)"):
            connect(Credentials("user", "wrong")).manifest("team/app", "v1")
        assert len(server.requests) <= 4


class TestRedirects:
    @pytest.fixture
    def elsewhere(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """Another host (another port is another origin), and the headers it gets."""
        seen: list[dict[str, str]] = []

        class Storage(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(dict(self.headers))
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)

            def do_PUT(self) -> None:
                seen.append(dict(self.headers))
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_PUT

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()
        server.server_close()
        thread.join(5)

    def test_a_blob_from_another_host_is_fetched_without_credentials(
        self, server: FakeRegistry, connect: Connect, tmp_path: Path, elsewhere: tuple[str, list[dict[str, str]]]
    ) -> None:
        url, seen = elsewhere
        server.auth = "basic"

        server.faults.append(
            Fault(
                lambda handler: "/blobs/" in handler.path and "Authorization" in handler.headers,
                lambda handler: handler.answer(307, Location=f"{url}/storage?signature=1"),
            )
        )
        pulled(connect(LOGIN), Layout(tmp_path / "other"))
        assert len(seen) == 1
        assert not [name for name in seen[0] if name.lower() == "authorization"]

    def test_an_upload_to_another_host_carries_none_either(
        self, server: FakeRegistry, connect: Connect, layout: Layout, elsewhere: tuple[str, list[dict[str, str]]]
    ) -> None:
        url, seen = elsewhere
        server.auth = "basic"

        server.faults.append(
            Fault(
                lambda handler: handler.command == "POST" and "Authorization" in handler.headers,
                lambda handler: handler.answer(202, Location=f"{url}/storage"),
            )
        )
        assert connect(LOGIN).push_blob("team/app", BLOB, layout.path(BLOB.digest)) == "sent"
        assert seen
        assert not [name for headers in seen for name in headers if name.lower() == "authorization"]

    def test_where_it_leads_may_not_ask_for_the_login(
        self, server: FakeRegistry, connect: Connect, tmp_path: Path, elsewhere: tuple[str, list[dict[str, str]]]
    ) -> None:
        url, seen = elsewhere
        storage = f"http://localhost:{server.server_address[1]}"  # another name is another origin
        server.auth = "basic"
        server.faults.append(
            Fault(
                lambda handler: "/blobs/" in handler.path and "Authorization" in handler.headers,
                lambda handler: handler.answer(307, Location=f"{storage}/storage"),
            )
        )
        challenge = f'Bearer realm="{url}/token",service="thief"'
        server.faults.append(on("GET", "^/storage", lambda handler: handler.answer(401, WWW_Authenticate=challenge)))
        keep(server)
        with pytest.raises(NotAuthorized):
            pulled(connect(LOGIN), Layout(tmp_path / "other"))
        assert server.asked("GET", "^/storage")
        assert not seen

    def test_an_identity_token_stays_with_its_token_server(
        self, server: FakeRegistry, connect: Connect, elsewhere: tuple[str, list[dict[str, str]]]
    ) -> None:
        url, seen = elsewhere
        server.auth = "bearer"

        def send_away(handler: Handler) -> None:
            handler.take_body()
            handler.answer(307, Location=f"{url}/token")

        server.faults.append(on("POST", "/token", send_away))
        with pytest.raises(RegistryError, match=r"redirects a POST to .*, which is not followed"):
            connect(Credentials(identity_token="identity")).has_blob("team/app", BLOB)
        assert not seen

    def test_redirects_end(self, server: FakeRegistry, connect: Connect) -> None:
        server.faults.extend(on("GET", "", lambda handler: handler.answer(302, Location=handler.path)) for _ in range(100))
        with pytest.raises(RegistryError, match="redirects more than 5 times"):
            connect().manifest("team/app", "v1")

    @pytest.mark.parametrize(
        "target", ["ftp://127.0.0.1/x", "http://user:password@127.0.0.1/x", "http://[::1/x", "file:///etc/passwd"]
    )
    def test_what_is_no_address_is_not_followed(self, server: FakeRegistry, connect: Connect, target: str) -> None:
        server.faults.append(on("GET", "", lambda handler: handler.answer(302, Location=target)))
        with pytest.raises(RegistryError, match="which is no address"):
            connect().manifest("team/app", "v1")
