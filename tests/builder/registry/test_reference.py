from __future__ import annotations

import pytest

from builder.images import InvalidImageName
from builder.registry.reference import has_registry, is_local, parse_reference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("hello", "docker.io", "library/hello", "latest", None),
        ("team/hello:1", "docker.io", "team/hello", "1", None),
        ("docker.io/hello", "docker.io", "library/hello", "latest", None),
        ("index.docker.io/library/hello", "docker.io", "library/hello", "latest", None),
        ("localhost/hello", "localhost", "hello", "latest", None),
        ("localhost:5000/a/b/c:2", "localhost:5000", "a/b/c", "2", None),
        ("registry.example.com/hello", "registry.example.com", "hello", "latest", None),
        (f"registry.example.com/hello@{DIGEST}", "registry.example.com", "hello", "", DIGEST),
        (f"hello:1@{DIGEST}", "docker.io", "library/hello", "1", DIGEST),
        ("[::1]:5000/hello", "[::1]:5000", "hello", "latest", None),
    ],
)
def test_where_an_image_is(text: str, registry: str, repository: str, tag: str, digest: str | None) -> None:
    found = parse_reference(text)
    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, digest)
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize("text", ["", "Hello", "a b", "example.com/", DIGEST, "hello:", "Team/hello", "a" * 400])
def test_what_is_no_image_name(text: str) -> None:
    with pytest.raises(InvalidImageName):
        parse_reference(text)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("registry.example.com", False),
        ("10.0.0.1:5000", False),
        ("localhost.example.com", False),
    ],
)
def test_which_registries_speak_plain_http(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_which_names_say_a_registry() -> None:
    assert has_registry("example.com/a")
    assert has_registry("localhost/a")
    assert not has_registry("team/a")
    assert not has_registry("hello:1.0")
