"""What a build says while it runs: lines for people, and at the end exactly one success or failure.

On the wire an event is one line of JSON, OpenFaaS's: `{"log": […], "image": …, "status": …, "error": …, "duration": …}`.
Stock clients read lines of less than 64 KiB and know a failure only by the status `failed`.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Status = Literal["in_progress", "success", "failed"]

NOT_PUSHED = "not pushed: "
"""How the log line begins that says why a builder made something of its own and no image for a registry."""

LONGEST_TEXT = 4000  # characters; at most 16 KB as UTF-8 and 24 KB escaped
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class BuildEvent(msgspec.Struct, frozen=True):
    """`error` is one line, and empty unless the status is failed. `duration` is the seconds since the build was asked for."""

    log: list[str]
    image: str
    status: Status
    error: str = ""
    duration: float = 0.0

    @property
    def is_final(self) -> bool:
        return self.status != "in_progress"


def one_line(text: str) -> str:
    """Return `text` as one printable line of at most LONGEST_TEXT characters, without terminal colours."""
    line = _UNPRINTABLE.sub(" ", text.replace("\n", " ").expandtabs(4)).rstrip()
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
