"""`calls.lua` in its two kinds: what adds calls is refused by a server whose memory is full, what lets them end is not."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple


class Script(NamedTuple):
    text: bytes
    sha: str


def _script(flags: str) -> Script:
    text = f"#!lua{flags}\n".encode() + (resources.files(__package__) / "calls.lua").read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())  # the name Redis has for it


ADDING: Final = _script("")
ENDING: Final = _script(" flags=allow-oom")
