"""The distribution API of one registry: manifests and blobs, both ways, verified as they pass.

Requests that fail for a moment (429, 500, 502, 503, 504, a broken connection) are made again, with growing pauses or the
one the registry asks for, up to MOST_TRIES. A blob over CHUNK_BYTES is sent in chunks; after a break the registry is
asked how much it has and the rest is sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import quote, urlsplit

from builder.oci.documents import (
    INDEX,
    INDEXES,
    LARGEST_DOCUMENT_BYTES,
    MANIFESTS,
    Descriptor,
    Index,
    InvalidImage,
    decode,
    descriptor_of,
    encode,
    hex_of,
    sha256,
)
from builder.oci.layout import NewBlob
from builder.registry.authorization import Authorization
from builder.registry.credentials import find_credentials
from builder.registry.errors import NotAuthorized, NotInRegistry, RegistryError, TransferBroken
from builder.registry.reference import HUB, HUB_API, is_local
from builder.registry.transport import Answer, Transport, joined, origin_of

CHUNK_BYTES = 16 << 20
MOST_TRIES = 5
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
PLAIN_HTTP_VARIABLE = "PINNACE_PLAIN_HTTP"

_MOMENTARY = (429, 500, 502, 503, 504)
_ACCEPTED = ", ".join((*MANIFESTS, *INDEXES))
_RANGE_END = re.compile(r"(?:bytes=)?0-([0-9]{1,15})")


class Registry:
    """The registry at `host`. Threads may share it. `sleep` and `clock` are the time's."""

    def __init__(
        self,
        host: str,
        transport: Transport,
        *,
        authorization: Authorization | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        sleep: Callable[[float], None] = time.sleep,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.host = host
        plain = is_local(host) or host in environment.get(PLAIN_HTTP_VARIABLE, "").replace(",", " ").split()
        self._base = f"{'http' if plain else 'https'}://{HUB_API if host == HUB else host}/v2/"
        self._transport = transport
        self._authorization = authorization or Authorization(host, transport, lambda: find_credentials(host), plain=plain)
        self._chunk_bytes = chunk_bytes
        self._sleep = sleep

    def manifest(self, repository: str, reference: str) -> tuple[Descriptor, bytes]:
        """Return a manifest or index by tag or digest, verified. Raises NotInRegistry and its kin, InvalidImage."""
        url = self._url(repository, "manifests", reference)
        scope = f"repository:{repository}:pull"
        content, media_type = b"", ""
        for attempt in self._attempts():
            with attempt, self._request("GET", url, scope, {"Accept": _ACCEPTED}, accept=(200,), tries=1) as answer:
                content, media_type = answer.read(), answer.headers.get("content-type", "")
        media_type = media_type.partition(";")[0].strip()
        descriptor = descriptor_of(content, _media_type(content, media_type))
        if reference.startswith("sha256:") and descriptor.digest != reference:
            raise InvalidImage(f"{self.host} answers with {descriptor.digest} where {reference} was asked for")
        if len(content) > LARGEST_DOCUMENT_BYTES:
            raise InvalidImage(
                f"the manifest of {repository} has {len(content)} bytes; at most {LARGEST_DOCUMENT_BYTES} are read"
            )
        return descriptor, content

    def has_manifest(self, repository: str, reference: str) -> bool:
        """Whether the registry has that manifest; for who is about to push."""
        url = self._url(repository, "manifests", reference)
        scope = f"repository:{repository}:pull,push"
        with self._request("HEAD", url, scope, {"Accept": _ACCEPTED}, accept=(200, 404)) as answer:
            return answer.status == 200

    def put_manifest(self, repository: str, reference: str, content: bytes, media_type: str) -> bool:
        """Give the registry a manifest by tag or digest; return whether it keeps track of what refers to what."""
        url = self._url(repository, "manifests", reference)
        scope = f"repository:{repository}:pull,push"
        with self._request("PUT", url, scope, {"Content-Type": media_type}, content, accept=(200, 201, 202)) as answer:
            told = answer.headers.get("docker-content-digest", "")
            if told and told != sha256(content):
                raise InvalidImage(f"{self.host} kept {told} where {sha256(content)} was sent")
            return "oci-subject" in answer.headers

    def pull_blob(self, repository: str, blob: Descriptor, into: NewBlob) -> None:
        """Write the blob to `into`, whose `commit` verifies it; after a break only the rest is asked for again.

        Raises NotInRegistry and its kin; InvalidImage when more comes than the blob's size.
        """
        url = self._url(repository, "blobs", blob.digest)
        for attempt in self._attempts():
            headers = {"Range": f"bytes={into.size}-"} if into.size else {}
            with (
                attempt,
                self._request("GET", url, f"repository:{repository}:pull", headers, accept=(200, 206), tries=1) as answer,
            ):
                skip = into.size if answer.status == 200 else 0
                for piece in answer.pieces():
                    kept, skip = piece[skip:], max(0, skip - len(piece))
                    if into.size + len(kept) > blob.size:
                        raise InvalidImage(f"{self.host} sends more than the {blob.size} bytes of {blob.digest}")
                    into.write(kept)
                if into.size < blob.size:
                    raise TransferBroken(f"{self.host} ended {blob.digest} after {into.size} of {blob.size} bytes")

    def has_blob(self, repository: str, blob: Descriptor) -> bool:
        """Whether the repository has that blob."""
        url = self._url(repository, "blobs", blob.digest)
        with self._request("HEAD", url, f"repository:{repository}:pull,push", accept=(200, 404)) as answer:
            return answer.status == 200

    def push_blob(self, repository: str, blob: Descriptor, path: Path, mount_from: str | None = None) -> str:
        """Give the repository the blob in the file `path`; return `there`, `mounted` or `sent`.

        `mount_from` is a repository of this registry that has it. Raises InvalidImage when the file is not that blob.
        """
        if self.has_blob(repository, blob):
            return "there"
        with path.open("rb") as file:
            _check(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", file.tell(), blob)
            file.seek(0)
            location = self._mounted(repository, blob, mount_from) if mount_from else self._begin_upload(repository)
            if location is None:
                return "mounted"
            if blob.size <= self._chunk_bytes:
                self._send_whole(repository, blob, file, location)
            else:
                self._send_in_chunks(repository, blob, file, location)
        return "sent"

    def referrers(self, repository: str, digest: str) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest: by the referrers API, else by the tag that stands in for it."""
        url = self._url(repository, "referrers", digest)
        scope = f"repository:{repository}:pull"
        with self._request("GET", url, scope, {"Accept": INDEX}, accept=(200, 404)) as answer:
            content = answer.read()
        if answer.status == 200 and answer.headers.get("content-type", "").startswith(INDEX):
            return decode(content, Index, f"the list of referrers of {digest}").manifests
        try:
            _, content = self.manifest(repository, referrers_tag(digest))
        except NotInRegistry:
            return ()
        return decode(content, Index, f"the list of referrers of {digest}").manifests

    def add_referrer(self, repository: str, subject: str, referrer: Descriptor) -> None:
        """List `referrer` under the tag that stands in for the referrers API (the specification's "Referrers Tag Schema")."""
        tag = referrers_tag(subject)
        try:
            _, content = self.manifest(repository, tag)
            listed = decode(content, Index, f"the list of referrers of {subject}").manifests
        except NotInRegistry:
            listed = ()
        if all(entry.digest != referrer.digest for entry in listed):
            content = encode(Index(schema_version=2, media_type=INDEX, manifests=(*listed, referrer)))
            self.put_manifest(repository, tag, content, INDEX)

    def _mounted(self, repository: str, blob: Descriptor, mount_from: str) -> str | None:
        """Ask for the blob of another repository; return None when that was done, else where to send it."""
        url = f"{self._url(repository, 'blobs', 'uploads/')}?mount={quote(blob.digest)}&from={quote(mount_from, safe='')}"
        scope = f"repository:{repository}:pull,push repository:{mount_from}:pull"
        with self._request("POST", url, scope, {"Content-Length": "0"}, b"", accept=(201, 202)) as answer:
            return None if answer.status == 201 else self._location(answer)

    def _begin_upload(self, repository: str) -> str:
        """Return where a blob is to be sent."""
        url = self._url(repository, "blobs", "uploads/")
        scope = f"repository:{repository}:pull,push"
        with self._request("POST", url, scope, {"Content-Length": "0"}, b"", accept=(202,)) as answer:
            return self._location(answer)

    def _send_whole(self, repository: str, blob: Descriptor, file: IO[bytes], location: str) -> None:
        content = file.read(blob.size)
        upload: str | None = location
        for attempt in self._attempts():
            with attempt:
                upload, to = None, upload or self._begin_upload(repository)  # an upload that broke is gone
                self._finish(repository, blob, to, content)

    def _send_in_chunks(self, repository: str, blob: Descriptor, file: IO[bytes], location: str) -> None:
        scope = f"repository:{repository}:pull,push"
        sent: int | None = 0  # None: unknown until the registry has answered
        for attempt in self._attempts():
            with attempt:
                if sent is None:
                    sent, location = self._resumed(repository, location)
                while (at := sent) < blob.size:
                    file.seek(at)
                    chunk = file.read(self._chunk_bytes)
                    headers = {
                        "Content-Type": "application/octet-stream",
                        "Content-Range": f"{at}-{at + len(chunk) - 1}",
                    }
                    sent = None
                    with self._request("PATCH", location, scope, headers, chunk, accept=(202,), tries=1) as answer:
                        location = self._location(answer)
                        told = _RANGE_END.fullmatch(answer.headers.get("range", ""))
                    sent = min(at + len(chunk), int(told[1]) + 1) if told else at + len(chunk)
                    if sent <= at:
                        sent = None
                        raise TransferBroken(f"{self.host} has taken nothing of {blob.digest} after byte {at}")
                sent = None
                self._finish(repository, blob, location, b"")

    def _resumed(self, repository: str, location: str) -> tuple[int, str]:
        """Return how many bytes the registry has of an upload that broke, and where to go on; a lost upload begins anew."""
        scope = f"repository:{repository}:pull,push"
        with self._request("GET", location, scope, accept=(200, 204, 404)) as answer:
            if answer.status != 404:
                told = _RANGE_END.fullmatch(answer.headers.get("range", ""))
                end = int(told[1]) + 1 if told else 0
                return (end if end > 1 else 0), self._location(answer, location)  # "0-0" is what is said of an empty one
        return 0, self._begin_upload(repository)

    def _finish(self, repository: str, blob: Descriptor, location: str, content: bytes) -> None:
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(blob.digest)}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))}
        scope = f"repository:{repository}:pull,push"
        with self._request("PUT", url, scope, headers, content, accept=(201, 204), tries=1) as answer:
            told = answer.headers.get("docker-content-digest", "")
            if told and told != blob.digest:
                raise InvalidImage(f"{self.host} kept {told} where {blob.digest} was sent")

    @contextlib.contextmanager
    def _request(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        accept: tuple[int, ...],
        tries: int = MOST_TRIES,
    ) -> Iterator[Answer]:
        """Make the request, authorized, and yield an answer with a status in `accept`.

        Credentials go along only when `url` is of the registry's own origin, and only what answers from there may ask for
        them: a storage service could name a token server of its own. Raises RegistryError.
        """
        ours = self._is_ours(url)
        with contextlib.ExitStack() as stack:
            for attempt in self._attempts(tries):
                stack.close()
                with attempt:
                    for _ in range(3):  # one challenge, one token that was withdrawn
                        authorization = self._authorization.header(scope) if ours else None
                        fields = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
                        answer = stack.enter_context(self._transport.exchange(method, url, fields, body, follow=body is None))
                        challenge = answer.headers.get("www-authenticate", "")
                        if answer.status != 401 or not self._is_ours(answer.url):
                            break
                        if not self._authorization.challenged(challenge, scope, authorization):
                            break
                        stack.close()
                    if answer.status not in accept:
                        self._refuse(answer)
            yield answer

    def _is_ours(self, url: str) -> bool:
        return origin_of(url) == origin_of(self._base)

    def _attempts(self, most: int = MOST_TRIES) -> Iterator[_Attempt]:
        """Yield contexts to try in, until one ends without a failure of the moment, with pauses between them."""
        pause_s = FIRST_PAUSE_S
        for number in range(most):
            attempt = _Attempt(last=number == most - 1)
            yield attempt
            if attempt.failure is None:
                return
            asked_s = getattr(attempt.failure, "retry_after_s", 0.0)
            self._sleep(min(LONGEST_PAUSE_S, max(asked_s, pause_s * random.uniform(0.5, 1.0))))  # noqa: S311
            pause_s *= 2

    def _refuse(self, answer: Answer) -> NoReturn:
        status, reason = answer.status, _reason_in(answer)
        where = f"the registry {self.host}"
        if status == 401:
            what = "does not accept the login" if self._authorization.has_login else "wants a login and none is kept here"
            raise NotAuthorized(f"{where} {what}: docker login {self.host}", status)
        if status == 403:
            raise NotAuthorized(f"{where} does not allow it: {reason}", status)
        if status == 404:
            raise NotInRegistry(f"{where} does not have it: {reason}", status)
        if status == 413:
            raise RegistryError(f"{where}, or a proxy in front of it, refuses a body of this size: {reason}", status)
        if status in _MOMENTARY:
            after = answer.headers.get("retry-after", "")
            asked_s = float(after) if after.isascii() and after.isdigit() else 0.0
            raise _Momentary(f"{where} cannot do it now: {reason}", status, asked_s)
        raise RegistryError(f"{where} refuses: {reason}", status)

    def _url(self, repository: str, what: str, which: str) -> str:
        return f"{self._base}{quote(repository)}/{what}/{quote(which, safe=':/')}"

    def _location(self, answer: Answer, default: str = "") -> str:
        location = answer.headers.get("location") or default
        if not location:
            raise RegistryError(f"the registry {self.host} does not say where to send a blob")
        there = joined(answer.url, location)
        if urlsplit(answer.url).scheme == "https" and urlsplit(there).scheme != "https":
            raise RegistryError(f"the registry {self.host} wants a blob sent without TLS, which is not done")
        return there


class _Momentary(RegistryError):
    def __init__(self, message: str, status: int, retry_after_s: float) -> None:
        super().__init__(message, status)
        self.retry_after_s = retry_after_s


class _Attempt:
    """A context that keeps a failure of the moment to itself, unless it is the `last` attempt."""

    def __init__(self, *, last: bool) -> None:
        self.failure: Exception | None = None
        self._last = last

    def __enter__(self) -> None:
        self.failure = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, TransferBroken | _Momentary):
            self.failure = error
            return not self._last
        return False


def referrers_tag(digest: str) -> str:
    """Return the tag that lists what refers to `digest` where a registry has no referrers API."""
    return f"sha256-{hex_of(digest)}"


def _check(digest: str, size: int, blob: Descriptor) -> None:
    if digest != blob.digest or size != blob.size:
        raise InvalidImage(f"the blob {blob.digest} on this disk is damaged: build the image again")


def _media_type(content: bytes, told: str) -> str:
    """What a manifest says of itself counts; the header is for those that say nothing."""
    try:
        inside = json.loads(content).get("mediaType")
    except (ValueError, AttributeError, RecursionError):
        raise InvalidImage("what the registry calls a manifest is not a JSON object") from None
    media_type = str(inside or told)
    if media_type not in (*MANIFESTS, *INDEXES):
        raise InvalidImage(
            f"a manifest of type {media_type[:100]!r} cannot be used: only OCI's and Docker's second version are"
        )
    return media_type


def _reason_in(answer: Answer) -> str:
    """What the registry says went wrong (distribution specification, "Error Codes"), or the status."""
    try:
        content = answer.read()[:10_000]
        errors = json.loads(content)["errors"]
        said = "; ".join(str(e.get("message") or e.get("code")) for e in errors[:3])
        said = "".join(c if c.isprintable() else " " for c in said)[:300]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RegistryError):
        said = ""
    return f"{said} (HTTP {answer.status})" if said else f"HTTP {answer.status}"
