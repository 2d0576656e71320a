"""Lines of what a replica writes.

One that belongs to a call is framed by the runtime: `\\x1e MARK \\x1f TEXT`, where the mark is the call's id and, behind a
space, the trace's where the call is traced. Others are taken as they are.
"""

from __future__ import annotations

LONGEST_LINE_BYTES = 1 << 20
LONGEST_MARK_BYTES = 128 + 1 + 32
CUT = " …[cut: longer than 1 MiB]"


class Lines:
    """Takes a byte stream apart into lines of at most `LONGEST_LINE_BYTES`; a longer one is cut and marked."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return `(mark, text)` of the lines that `data` completes."""
        found = []
        *whole, rest = data.split(b"\n")
        for part in whole:
            if self._skipping:
                self._skipping = False
                continue
            self._rest += part
            found.append(_parse(bytes(self._rest), cut=len(self._rest) > LONGEST_LINE_BYTES))
            self._rest.clear()
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > LONGEST_LINE_BYTES:
                found.append(_parse(bytes(self._rest), cut=True))
                self._rest.clear()
                self._skipping = True
        return found

    def end(self) -> list[tuple[str, str]]:
        """Return the last line, when it had no end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [_parse(rest, cut=False)] if rest else []


def _parse(line: bytes, *, cut: bool) -> tuple[str, str]:
    mark = b""
    if line.startswith(b"\x1e"):
        framed, separator, text = line[1:].partition(b"\x1f")
        if separator and len(framed) <= LONGEST_MARK_BYTES:
            mark, line = framed, text
    shown = line[:LONGEST_LINE_BYTES].decode(errors="replace").removesuffix("\r")
    return mark.decode(errors="replace"), shown + CUT if cut else shown
