from __future__ import annotations

import pytest

from builder.images import InvalidImageName, image_digest, image_name

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hello", "hello:latest"),
        ("hello:1.0", "hello:1.0"),
        ("team/hello", "team/hello:latest"),
        ("registry.example.com:5000/team/hello", "registry.example.com:5000/team/hello:latest"),
        ("localhost:5000/hello:v2", "localhost:5000/hello:v2"),
        ("my_app--x/hello.world", "my_app--x/hello.world:latest"),
    ],
)
def test_full_name(text: str, name: str) -> None:
    assert image_name(text) == name
    assert image_name(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Hello",
        "../etc/passwd",
        "/hello",
        "hello:",
        "hello/",
        "a" * 256,
        "hello\n",
        "x:y:z/a",
        "hello:tag/x",
        f"hello@{DIGEST}",
        DIGEST,
    ],
)
def test_what_is_no_image_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidImageName, match=r"is not an image name such as hello:1\.0"):
        image_name(text)


@pytest.mark.parametrize(
    ("text", "digest"),
    [(DIGEST, DIGEST), (f"hello@{DIGEST}", DIGEST), (f"r.io/hello:1@{DIGEST}", DIGEST), ("hello", None), ("sha256:abc", None)],
)
def test_digest_in_a_name(text: str, digest: str | None) -> None:
    assert image_digest(text) == digest
