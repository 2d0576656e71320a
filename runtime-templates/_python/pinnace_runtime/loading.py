"""Import the user's handler, and say in one line what is wrong when that fails.

`sys.path` becomes: the code folder, the standard library, `function/`, the installed requirements, this runtime. So
`from function import x`, `from . import x` and plain `import x` all find a file beside the handler; such a file
wins over an installed module of its name, but a `function/queue.py` does not take the place of the standard one.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

HANDLER_FOLDER = "function"
DETAIL_LIMIT = 16 * 1024
LINE_LIMIT = 500


class LoadFailed(Exception):
    """The function cannot be served. The message is one line for people; `detail` the traceback, where there is one."""

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(" ".join(line.split())[:LINE_LIMIT])
        self.detail = detail[-DETAIL_LIMIT:]


def arrange_path(code: str) -> None:
    """Put the user's code in its places on `sys.path`."""
    installed = (i for i, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path) - 1), os.path.join(code, HANDLER_FOLDER))
    sys.path.insert(0, code)


def import_handler(code: str) -> ModuleType:
    """Return the module `function.handler` of the code folder, imported. Raises LoadFailed."""
    folder = os.path.join(code, HANDLER_FOLDER)
    if not os.path.isfile(os.path.join(folder, "handler.py")):
        raise LoadFailed(f"{HANDLER_FOLDER}/handler.py is missing")
    if not os.path.isfile(os.path.join(folder, "__init__.py")):
        # Without this an installed package that happens to be called `function` would be found instead.
        package = ModuleType(HANDLER_FOLDER)
        package.__path__ = [folder]
        sys.modules[HANDLER_FOLDER] = package
    try:
        return importlib.import_module(f"{HANDLER_FOLDER}.handler")
    except (Exception, SystemExit) as error:
        raise load_failed(error, code) from error


def load_failed(error: BaseException, code: str) -> LoadFailed:
    """Return what to say of an exception that the user's code raised: `handler.py line 3: NameError: …`."""
    from pinnace_runtime.tracebacks import formatted

    detail = formatted(error, code)
    place = _place(error, code)
    what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}".rstrip(": ")
    return LoadFailed(f"{place}: {what}" if place else what, detail)


def _place(error: BaseException, code: str) -> str:
    """File and line of the user's code to look at: where the syntax is wrong, else the innermost frame of theirs."""
    from pinnace_runtime.tracebacks import short, within

    if isinstance(error, SyntaxError) and error.filename and within(error.filename, code):
        return f"{short(error.filename, code)} line {error.lineno}"
    place, trace = "", error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if within(filename, code):
            place = f"{short(filename, code)} line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
