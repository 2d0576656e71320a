"""Adding a function to a stack file as a person would: a few lines at the end of `functions`, all else as it was."""

from __future__ import annotations

import json
import re

import yaml

from cli.errors import Misuse

INDENT = "  "
_EMPTY_FUNCTIONS = re.compile(r"""^(["']?functions["']?\s*:)([ \t]*(\{\s*\}|~|null))?""")


def new_stack(gateway: str = "") -> str:
    """Return a stack file without functions. Without a gateway in it the environment and `--gateway` decide."""
    return "version: 1.0\nprovider:\n  name: openfaas\n" + (f"  gateway: {gateway}\n" if gateway else "") + "functions:\n"


def added_function(text: str, file: str, name: str, **fields: str) -> str:
    """Return the stack file's `text` with the function `name` at the end of its functions; comments and order stay.

    Raises Misuse when the name is taken, or the file is one that cannot be added to.
    """
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Misuse(f"{file}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise Misuse(f"{file}: {error}") from None
    if not isinstance(document, yaml.MappingNode):
        raise Misuse(f"{file}: a mapping with 'provider' and 'functions' is wanted")
    block = _block(name, fields)
    found = next((pair for pair in document.value if getattr(pair[0], "value", None) == "functions"), None)
    if found is None:
        return _ended(text) + "functions:\n" + _indented(block, INDENT)
    key, functions = found
    if isinstance(functions, yaml.MappingNode) and functions.value:
        if any(getattr(entry, "value", None) == name for entry, _ in functions.value):
            raise Misuse(f"{file} has a function {name} already; nothing was changed")
        if functions.flow_style:
            raise Misuse(f"{file}: functions is written with braces; write it over several lines to add to it")
        indent = " " * functions.value[0][0].start_mark.column
        return _inserted(text, _end_line(text, functions), _indented(block, indent))
    if functions.tag != "tag:yaml.org,2002:null" and not isinstance(functions, yaml.MappingNode):
        raise Misuse(f"{file}: functions must be a mapping of names to functions")
    line = key.start_mark.line
    lines = text.splitlines(keepends=True)
    lines[line] = _EMPTY_FUNCTIONS.sub(r"\1", _ended(lines[line]))
    return _inserted("".join(lines), line + 1, _indented(block, INDENT))


def _block(name: str, fields: dict[str, str]) -> str:
    return f"{_scalar(name)}:\n" + "".join(f"{INDENT}{key}: {_scalar(value)}\n" for key, value in fields.items())


def _scalar(value: str) -> str:
    """The text as it is where YAML reads it back the same, else in quotes."""
    try:
        plain = yaml.safe_load(f"key: {value}") == {"key": value}
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value)


def _end_line(text: str, functions: yaml.MappingNode) -> int:
    """The line after the last one of `functions` that holds something: comments behind it belong to what follows."""
    lines = text.splitlines()
    end = min(functions.end_mark.line + (1 if functions.end_mark.column else 0), len(lines))
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end


def _inserted(text: str, line: int, block: str) -> str:
    lines = _ended(text).splitlines(keepends=True)
    return "".join((*lines[:line], block, *lines[line:]))


def _indented(block: str, indent: str) -> str:
    return "".join(indent + line for line in block.splitlines(keepends=True))


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
