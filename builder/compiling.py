"""Python code compiled when it is built: a replica may not write beside its code, and its first import should be fast.

The compiled files do not check for changes of their source, which in a layer never changes; so they hold no times. They
are the same bytes whoever compiles: marshal's version 2, the last without references between objects, which later ones
write or not depending on what else the process holds (files 20 % larger; 1,200 modules load in 104 ms, not 77). Syntax
errors come to light here, with file and line, long before a replica would fail to start.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from builder.layers import COMPILED

_UNCHECKED_HASH = 0b01  # PEP 552: named by a hash of the source, which is not compared
_WITHOUT_REFERENCES = 2


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
            content = compiled(path.read_bytes(), relative, log)
        except BrokenCode as error:
            if must_compile(relative):
                raise
            log(f"warning: {error}")
            continue
        place = path.parent / COMPILED / compiled_name(path.name)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)


def compiled(source: bytes, name: str, log: Callable[[str], None]) -> bytes:
    """Return the content of the compiled file of `source`; `name` is what it calls itself in tracebacks until it is imported.

    Warnings of the compiler go to `log`. Raises BrokenCode.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code = compile(source, name, "exec", dont_inherit=True, optimize=-1)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BrokenCode(_reason(name, error)) from None
    for warning in caught:
        log(f"warning: {name} line {warning.lineno}: {warning.category.__name__}: {warning.message}")
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    return head + importlib.util.source_hash(source) + marshal.dumps(code, _WITHOUT_REFERENCES)


def compiled_name(name: str) -> str:
    """Return the name of the compiled file of the file `name`, inside `__pycache__` (PEP 3147)."""
    return f"{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"


def _sources(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != COMPILED)
        for name in sorted(files):
            path = Path(parent, name)
            if name.endswith(".py") and not path.is_symlink():
                yield path


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        line = f" line {error.lineno}" if error.lineno else ""
        return f"{name}{line}: {type(error).__name__}: {error.msg}"
    return f"{name}: {type(error).__name__}: {error}"
