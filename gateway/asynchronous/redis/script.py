"""The script in its two kinds: what adds calls is refused by a server whose memory is full, what lets them end is not."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

PARTS: Final = ("structures", "calls", "operations", "lists", "run")
"""Files of Lua, joined in this order: a server has no modules."""


class Script(NamedTuple):
    text: bytes
    sha: str


def _script(flags: str) -> Script:
    parts = (resources.files(__package__).joinpath(f"{part}.lua").read_bytes() for part in PARTS)
    text = f"#!lua{flags}\n".encode() + b"".join(parts)
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())  # the name Redis has for it


ADDING: Final = _script("")
ENDING: Final = _script(" flags=allow-oom")
