"""What is wrong with a Python handler, as far as its text tells: found before anything is sent.

Its syntax, and that it has the function which its template calls. Nothing is run: a name that is imported, assigned or
made in a way that a look cannot follow counts as there, and the replica's start decides.
"""

from __future__ import annotations

import ast
import os.path
import sys
from collections.abc import Iterator
from pathlib import Path

from builder.templates import Template
from cli.errors import Misuse
from cli.guess import HANDLER_FILE
from cli.hints import did_you_mean
from cli.stack import StackFunction

WANTED = {
    "python3-http": (("handle",), "function handle(event, context)"),
    "python3": (("handle",), "function handle(req)"),
    "python3-asgi": (("app", "application", "new", "handle"), "app, application, new() or async handle(scope, receive, send)"),
}
"""By template: the names of which a handler needs one, and what that is in words."""

POSITIONALS = {"python3-http": 2, "python3": 1}
"""By template: how many arguments `handle` is called with."""

_DYNAMIC = frozenset(("exec", "eval", "globals", "locals", "vars", "setattr", "__dict__", "modules"))
"""Who uses one of these may make any name."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def check_handler(function: StackFunction, template: Template, copies: tuple[str, ...] = ()) -> None:
    """Look at the handler of a function that is about to be built, where it is Python and no extra path takes its place.

    Raises Misuse, one line that names the file.
    """
    if function.handler is None or HANDLER_FILE not in template.handler or HANDLER_FILE in map(os.path.normpath, copies):
        return
    check_code(function.name, template.language if template.built_in else "", function.handler / HANDLER_FILE)


def check_code(function: str, template: str, file: Path) -> None:
    """Look at the handler in `file` of a function with one of our `template`s; empty for one of others, whose syntax alone
    is known. Raises Misuse, one line that names the file."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        line = f" line {error.lineno}" if error.lineno else ""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Misuse(f"{function}: {file}{line}: {type(error).__name__}: {error.msg} (for Python {python})") from None
    except (OSError, ValueError, RecursionError, MemoryError):
        return  # the build says so
    names, words = WANTED.get(template, ((), ""))
    if wrong := _wrong_parameters(tree, template):
        asked = words.removeprefix("function ")
        raise Misuse(f"{function}: {file} line {wrong.lineno}: {template} calls {asked}, and this one takes {_shown(wrong)}")
    if not names or _may_have(tree, names):
        return
    hint = did_you_mean(names[-1], _defined(tree))
    raise Misuse(f"{function}: {file} has no {words}, which {template} calls{hint}")


def _may_have(tree: ast.Module, names: tuple[str, ...]) -> bool:
    if any(isinstance(node, ast.Raise) for node in tree.body):
        return True  # it says itself what is wrong
    bound = set(_bound(tree))
    if "*" in bound or "__getattr__" in bound or bound.intersection(names):
        return True
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=used) | ast.Attribute(attr=used) if used in _DYNAMIC:
                return True
            case ast.Global(names=declared) if set(declared).intersection(names):
                return True
    return False


def _wrong_parameters(tree: ast.Module, template: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the `handle` that cannot be called as the template does it; None where it can be, or where a look cannot tell:
    it is decorated, or the name is bound more than once."""
    count = POSITIONALS.get(template)
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "handle"]
    bound = list(_bound(tree))
    if count is None or len(found) != 1 or found[0].decorator_list or bound.count("handle") != 1 or "*" in bound:
        return None
    takes = found[0].args
    most = len(takes.posonlyargs) + len(takes.args)
    fits = most - len(takes.defaults) <= count and (count <= most or takes.vararg is not None)
    return None if fits and all(takes.kw_defaults) else found[0]


def _shown(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f"({ast.unparse(function.args)})"


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that the module's own statements bind, also inside `if`, `try` and the like; `*` for all of others."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.alias(name=name, asname=given):
                yield given or name.partition(".")[0]
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name
        if not isinstance(child, _SCOPES):
            yield from _bound(child)


def _defined(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
