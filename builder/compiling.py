"""Python code compiled when it is built: a replica may not write beside its code, and its first import should be fast.

The compiled files do not check for changes of their source, which in a layer never changes; so they hold no times.
Syntax errors come to light here, with file and line, long before a replica would fail to start.
"""

from __future__ import annotations

import os
import py_compile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from builder.layers import COMPILED


class BrokenCode(ValueError):
    """A Python file that does not compile; the message is `FILE line N: SyntaxError: what`."""


def compile_folder(folder: Path, log: Callable[[str], None], must_compile: Callable[[str], bool]) -> None:
    """Compile every Python file below `folder`.

    Raises BrokenCode for a file whose relative path `must_compile` accepts; what is wrong with others is only logged,
    because packages carry files for other Python versions that are never imported.
    """
    for path in _sources(folder):
        relative = os.fspath(path.relative_to(folder))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                py_compile.compile(
                    os.fspath(path),
                    dfile=relative,
                    doraise=True,
                    quiet=1,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )
        except py_compile.PyCompileError as error:
            reason = _reason(relative, error)
            if must_compile(relative):
                raise BrokenCode(reason) from None
            log(f"warning: {reason}")
            continue
        for warning in caught:
            log(f"warning: {relative} line {warning.lineno}: {warning.category.__name__}: {warning.message}")


def _sources(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != COMPILED)
        for name in sorted(files):
            path = Path(parent, name)
            if name.endswith(".py") and not path.is_symlink():
                yield path


def _reason(relative: str, error: py_compile.PyCompileError) -> str:
    cause = error.exc_value
    if isinstance(cause, SyntaxError):
        line = f" line {cause.lineno}" if cause.lineno else ""
        return f"{relative}{line}: {type(cause).__name__}: {cause.msg}"
    return f"{relative}: {error.exc_type_name}: {cause}"
