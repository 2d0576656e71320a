"""What a handler yields, piece by piece."""

from __future__ import annotations

from pinnace_runtime import logs
from pinnace_runtime.reply import InvalidReply, piece_bytes

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator


class Pieces:
    """What a handler's iterator yields, as bytes. `failed` once it raised or yielded something else; that is logged."""

    def __init__(self, stream: Iterator[object]) -> None:
        self._stream = stream
        self.failed = False

    def next(self) -> bytes | None:
        """Return the next piece that is not empty, or None at the end."""
        try:
            for piece in self._stream:
                if data := piece_bytes(piece):
                    return data
        except InvalidReply as error:
            logs.log(str(error))
            self.failed = True
        except BaseException as error:
            logs.log_exception(error)
            self.failed = True
        return None

    def close(self) -> None:
        """Let a generator that has not ended run its `finally` blocks."""
        close = getattr(self._stream, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:
            logs.log_exception(error)
