"""Which language a folder is written for, when neither the command line nor a stack file says it."""

from __future__ import annotations

import ast
import os.path
from pathlib import Path

from cli.errors import Misuse

HANDLER_FILE = "handler.py"
# In this order; a folder with a Python handler is a Python function, whatever else is in it.
_OTHERS = {"handler.js": "node", "handler.mjs": "node", "handler.cjs": "node", "handler.sh": "bash", "Dockerfile": "dockerfile"}


def guess_language(folder: Path) -> str:
    """Return the template that fits the folder's handler; for handler.py the one of `handle(event, context)`, `handle(req)`,
    or an ASGI app.

    A handler that Python cannot parse counts as the first, so that the deploy names its error. Raises Misuse.
    """
    try:
        tree = ast.parse((folder / HANDLER_FILE).read_bytes())
    except FileNotFoundError:
        for name, language in _OTHERS.items():
            if (folder / name).is_file():
                return language
        known = f"{HANDLER_FILE}, handler.js or handler.sh"
        raise Misuse(f"{folder} has no {known}; say the language: --lang LANG (faas template list)") from None
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


def check_entry(name: str, language: str, folder: Path, copies: tuple[str, ...] = (), fprocess: str = "") -> None:
    """Raise Misuse when a function has none of the files that its template expects, in its folder or among the `copies`.

    With a command of its own (`fprocess`) a function of a template that runs commands needs no such file.
    """
    from builder.templates import PROJECT_FOLDER, InvalidTemplate, Templates, UnknownTemplate

    try:
        template = Templates(project=PROJECT_FOLDER).find(language)
    except (UnknownTemplate, InvalidTemplate):
        return  # the build says so
    if not template.handler or (fprocess and "fprocess" in template.env):
        return
    copied = set(map(os.path.normpath, copies))
    if not any((folder / file).is_file() or file in copied for file in template.handler):
        others = f" (or {', '.join(template.handler[1:])})" if template.handler[1:] else ""
        raise Misuse(f"{name}: there is no {folder / template.handler[0]}{others}, where {language} expects the function")


def _assigns(tree: ast.Module, name: str) -> bool:
    targets: list[ast.expr] = []
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)
