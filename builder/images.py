"""Image names as users write them, in the one form in which they are looked up: `hello` is `hello:latest`."""

from __future__ import annotations

import re

LONGEST_NAME = 255
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_NAME = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class InvalidImageName(ValueError):
    """Not an image name; the message shows it and gives an example."""


def image_name(text: str) -> str:
    """Return the full form of an image name, with registry as written and tag `latest` when it has none.

    Raises InvalidImageName, also for a name by digest: a build gives names, not digests.
    """
    match = _NAME.fullmatch(text) if len(text) <= LONGEST_NAME else None
    if not match or match["digest"] or _DIGEST.fullmatch(text):
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise InvalidImageName(f"{shown!r} is not an image name such as hello:1.0 or registry.example.com/team/hello:latest")
    return f"{match['name']}:{match['tag'] or 'latest'}"


def split_name(text: str) -> tuple[str, str, str | None]:
    """Return an image name's parts as written: name with registry, tag or an empty text, digest or None.

    Raises InvalidImageName.
    """
    match = _NAME.fullmatch(text) if len(text) <= LONGEST_NAME + 72 else None
    if not match or _DIGEST.fullmatch(text):
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise InvalidImageName(f"{shown!r} is not an image name such as registry.example.com/team/hello:1.0")
    return match["name"], match["tag"] or "", match["digest"]


def image_digest(text: str) -> str | None:
    """Return the digest in `sha256:HEX` or `name@sha256:HEX`, or None when the text has none."""
    if _DIGEST.fullmatch(text):
        return text
    match = _NAME.fullmatch(text) if len(text) <= LONGEST_NAME + 72 else None
    return match["digest"] if match else None
