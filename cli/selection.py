"""Which functions a deploy is about: those of a stack file, one folder, or one image; with the command line's changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cli.errors import Misuse
from cli.guess import guess_language
from cli.hints import did_you_mean
from cli.options import find_stack_file
from cli.stack import Stack, StackFunction, check_handler, read_stack
from orchestration.names import InvalidName, check_function_name, check_namespace
from orchestration.quantity import InvalidQuantity, parse_quantity

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Asked:
    """Where the command line says that functions are; empty texts are not given."""

    path: str = ""
    file: str = ""
    image: str = ""
    name: str = ""
    lang: str = ""
    glob: str = ""
    regex: str = ""
    envsubst: bool = True


@dataclass(frozen=True)
class Changes:
    """What the command line changes in each function: maps and lists are added to, texts replace."""

    environment: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    limits: Mapping[str, str]
    requests: Mapping[str, str]
    secrets: tuple[str, ...]
    constraints: tuple[str, ...]
    fprocess: str
    namespace: str
    readonly: bool

    def applied_to(self, function: StackFunction) -> StackFunction:
        """Return the function with the changes. Raises Misuse."""
        try:
            check_function_name(function.name)
            if self.namespace:
                check_namespace(self.namespace)
            for quantity in (*self.limits.values(), *self.requests.values()):
                parse_quantity(quantity)
        except (InvalidName, InvalidQuantity) as error:
            raise Misuse(str(error)) from None
        for name in (*function.environment, *self.environment):
            if not _VARIABLE.fullmatch(name):
                raise Misuse(f"{function.name}: environment variable {name!r}: letters, digits, '_', '.', '-', no digit first")
        return replace(
            function,
            environment={**function.environment, **self.environment},
            labels={**function.labels, **self.labels},
            annotations={**function.annotations, **self.annotations},
            limits={**function.limits, **self.limits},
            requests={**function.requests, **self.requests},
            secrets=tuple(dict.fromkeys((*function.secrets, *self.secrets))),
            constraints=tuple(dict.fromkeys((*function.constraints, *self.constraints))),
            fprocess=self.fprocess or function.fprocess,
            namespace=self.namespace or function.namespace,
            readonly_root_filesystem=self.readonly or function.readonly_root_filesystem,
        )


@dataclass(frozen=True)
class Selection:
    """The functions, and what their stack file adds: its gateway, extra paths, notes for the user."""

    functions: tuple[StackFunction, ...]
    gateway: str | None = None
    copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def select(asked: Asked) -> Selection:
    """Return the functions that are meant, checked. Raises Misuse."""
    if asked.image:
        if asked.path or asked.glob or asked.regex:
            raise Misuse("--image deploys one image that exists: give --name NAME, and no folder or filter")
        if not asked.name:
            raise Misuse("--image needs --name NAME")
        return Selection((StackFunction(asked.name, image=asked.image),))
    if asked.path and Path(asked.path).is_file():
        raise Misuse(f"{asked.path} is a file; for a stack file: faas deploy -f {asked.path}")
    stack = _stack(asked)
    if asked.path and (folder := Path(asked.path)).is_dir():
        return _folder(asked, folder, stack)
    if asked.path and (stack is None or asked.name or asked.lang or "/" in asked.path):
        raise Misuse(f"no such folder: {asked.path}")
    if stack is None:
        raise Misuse("there is no stack.yaml here; make a function: faas new NAME --lang python3-http, or name a folder")
    return _from_stack(asked, stack)


def _stack(asked: Asked) -> Stack | None:
    source = asked.file or find_stack_file()
    return read_stack(source, envsubst=asked.envsubst) if source else None


def _from_stack(asked: Asked, stack: Stack) -> Selection:
    if name := asked.path or asked.name:
        if asked.glob or asked.regex or (asked.path and asked.name not in ("", asked.path)):
            raise Misuse("one function by its name, or several with --filter or --regex")
        chosen = tuple(f for f in stack.functions if f.name == name)
        if not chosen:
            hint = did_you_mean(name, [function.name for function in stack.functions])
            raise Misuse(f"{name} is neither a folder nor a function of {stack.source}{hint}")
    else:
        chosen = stack.select(asked.glob, asked.regex)
    return Selection(tuple(_with_language(f, asked, stack.source) for f in chosen), stack.gateway, stack.copies, stack.notes)


def _folder(asked: Asked, folder: Path, stack: Stack | None) -> Selection:
    """One folder: the stack file's function of that folder, with all its settings, else a function made of flags."""
    if asked.glob or asked.regex:
        raise Misuse("--filter and --regex choose from a stack file; they do not go with a folder")
    same = [
        f
        for f in (stack.functions if stack else ())
        if f.handler is not None and f.handler.resolve() == folder.resolve() and asked.name in ("", f.name)
    ]
    if len(same) > 1:
        names = ", ".join(f.name for f in same)
        raise Misuse(f"{folder} is the handler of several functions ({names}); say which: --name NAME")
    if same and stack is not None:
        return Selection((_with_language(same[0], asked, stack.source),), stack.gateway, stack.copies, stack.notes)
    name = asked.name or folder.resolve().name
    function = StackFunction(name, lang=asked.lang or guess_language(folder), handler=folder)
    return Selection((function,), stack.gateway if stack else None)


def _with_language(function: StackFunction, asked: Asked, source: str) -> StackFunction:
    check_handler(function, source)
    if not function.builds or function.handler is None:
        return function
    return replace(function, lang=asked.lang or function.lang or guess_language(function.handler))
