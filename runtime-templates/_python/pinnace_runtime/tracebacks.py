"""Tracebacks as the author of a function reads them: from their own code on, without frames of this runtime.

What called the handler (this runtime, a framework, the import machinery) is not where the fault is, and a frame of ours below
a handler's (`send` of an ASGI application) only says who refused. Files of the function have the names that their author gave
them: `handler.py`. With PINNACE_DEBUG=1 in the function's environment everything is shown, as Python would.
"""

from __future__ import annotations

import os
import traceback
from traceback import TracebackException

from pinnace_runtime.loading import HANDLER_FOLDER

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator

_RUNTIME = os.path.dirname(os.path.abspath(__file__)) + os.sep


def formatted(error: BaseException, code: str) -> str:
    """Return the traceback of `error`, a function's whose code is in the folder `code`, with its last line end."""
    if os.environ.get("PINNACE_DEBUG") == "1":
        return "".join(traceback.format_exception(error))
    report = TracebackException.from_exception(error)
    for part in _parts(report):
        _tidy(part, code)
    return "".join(report.format())


def _parts(report: TracebackException) -> Iterator[TracebackException]:
    """Yield the exception, those that it came of, and those of a group."""
    left, seen = [report], set()
    while left:
        part = left.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            left += [other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other is not None]


def _tidy(part: TracebackException, code: str) -> None:
    """Leave out what is not the user's. Where nothing of theirs is, it is a framework's fault, or one of this runtime."""
    theirs = [place for place, frame in enumerate(part.stack) if within(frame.filename, code)]
    kept = [frame for frame in part.stack[theirs[0] if theirs else 0 :] if not frame.filename.startswith(_RUNTIME)]
    for frame in kept:
        if within(frame.filename, code):
            frame.filename = short(frame.filename, code)
    filename = getattr(part, "filename", None)  # of a SyntaxError, which names the place itself
    if filename and within(filename, code):
        part.filename = short(filename, code)
        part.stack[:] = kept if theirs else []
    elif kept:
        part.stack[:] = kept


def within(filename: str, code: str) -> bool:
    """Whether a file is one of the function's."""
    return bool(code) and filename.startswith(code + os.sep)


def short(filename: str, code: str) -> str:
    """The path as the user knows it: relative to their handler's folder, or to the code folder outside of it."""
    folder = os.path.join(code, HANDLER_FOLDER)
    return os.path.relpath(filename, folder if within(filename, folder) else code)
