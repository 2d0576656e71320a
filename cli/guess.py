"""Which language a folder is written for, when neither the command line nor a stack file says it."""

from __future__ import annotations

import ast
import os.path
from pathlib import Path

from cli.errors import Misuse

HANDLER_FILE = "handler.py"


def guess_language(folder: Path) -> str:
    """Return the template that fits the folder's handler: `handle(event, context)`, `handle(req)`, or an ASGI app.

    A handler that Python cannot parse counts as the first, so that the deploy names its error. Raises Misuse.
    """
    try:
        tree = ast.parse((folder / HANDLER_FILE).read_bytes())
    except FileNotFoundError:
        raise Misuse(f"{folder} has no {HANDLER_FILE}; say the language: --lang LANG (faas template list)") from None
    except (SyntaxError, ValueError, RecursionError):
        return "python3-http"
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    handle = named.get("handle")
    if handle is None:
        return "python3-asgi" if "new" in named or _assigns(tree, "app") else "python3-http"
    arguments = len(handle.args.posonlyargs) + len(handle.args.args)
    if isinstance(handle, ast.AsyncFunctionDef) and arguments == 3:
        return "python3-asgi"
    return "python3" if arguments == 1 else "python3-http"


def check_entry(name: str, language: str, folder: Path, copies: tuple[str, ...] = ()) -> None:
    """Raise Misuse when a Python function has no handler.py, neither in its folder nor among the stack file's `copies`."""
    expected = folder / HANDLER_FILE
    if language.startswith("python") and not expected.is_file() and HANDLER_FILE not in map(os.path.normpath, copies):
        raise Misuse(f"{name}: there is no {expected}, where {language} expects the function")


def _assigns(tree: ast.Module, name: str) -> bool:
    targets: list[ast.expr] = []
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)
