"""`${VAR}` in a stack file, in the dialect that OpenFaaS users have: bash's parameter expansion, without `$VAR`.

| written | gives |
|---|---|
| `${V}` | the value, empty when unset |
| `${V:-text}` `${V:=text}` `${V=text}` | the value, or `text` when it is unset or empty |
| `${#V}` | the number of characters |
| `${V^}` `${V^^}` `${V,}` `${V,,}` | the first letter, or all, in upper or lower case |
| `${V:from}` `${V:from:count}` | a part |
| `${V#glob}` `${V##glob}` `${V%glob}` `${V%%glob}` | without the shortest or longest beginning or end that fits |
| `${V/a/b}` `${V//a/b}` `${V/#a/b}` `${V/%a/b}` | the first, every, a leading, a trailing `a` replaced by `b` |
| `$${V}` | `${V}` as it stands |

`text`, `glob`, `a` and `b` may hold expansions of their own; in `a` a backslash keeps a `/`.
Source: the README of the Go package envsubst that faas-cli uses, and bash's manual, "Shell Parameter Expansion".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate

DEEPEST_NESTING = 20

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Longest first: `:-` before the `:` of a part, `##` before `#`.
_OPERATOR = re.compile(r":-|:=|=|\^\^|\^|,,|,|##|#|%%|%|//|/#|/%|/|:")


class BadExpansion(ValueError):
    """An expansion that is not closed or not of the dialect; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return `text` with its expansions replaced. Raises BadExpansion."""
    return _Expander(text, environment).run()


class _Expander:
    """One pass over `text`; `_at` is the next character."""

    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self._text = text
        self._environment = environment
        self._at = 0
        self._depth = 0

    def run(self) -> str:
        return self._until("")

    def _until(self, ends: str) -> str:
        """Return the expanded text up to (not including) one of the characters `ends`, or the end of the text."""
        done: list[str] = []
        text = self._text
        while self._at < len(text):
            here = text[self._at]
            if here in ends:
                break
            if here == "\\" and "/" in ends and text[self._at + 1 : self._at + 2] == "/":
                done.append("/")
                self._at += 2
            elif text.startswith("$${", self._at):
                done.append("${")
                self._at += 3
            elif text.startswith("${", self._at):
                done.append(self._expansion())
            else:
                done.append(here)
                self._at += 1
        return "".join(done)

    def _expansion(self) -> str:
        start = self._at
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise self._bad(start, f"more than {DEEPEST_NESTING} expansions in each other")
        self._at += 2
        length = self._take("#")
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise self._bad(start, "a variable's name is missing after '${' (write '$${' for '${' itself)")
        self._at = name.end()
        value = self._environment.get(name[0], "")
        operator = _OPERATOR.match(self._text, self._at)
        if length:
            value = str(len(value))
        elif operator:
            self._at = operator.end()
            value = self._apply(operator[0], value, start)
        if not self._take("}"):
            raise self._bad(start, "it is not closed, or not a known form")
        self._depth -= 1
        return value

    def _apply(self, operator: str, value: str, start: int) -> str:
        match operator:
            case ":-" | ":=" | "=":
                fallback = self._until("}")
                return value or fallback
            case "^":
                return value[:1].upper() + value[1:]
            case "^^":
                return value.upper()
            case ",":
                return value[:1].lower() + value[1:]
            case ",,":
                return value.lower()
            case ":":
                return self._part(value, start)
            case "#" | "##" | "%" | "%%":
                return _without(value, self._until("}"), operator)
        old = self._until("/}")
        new = self._until("}") if self._take("/") else ""
        return _replaced(value, old, new, operator)

    def _part(self, value: str, start: int) -> str:
        numbers = [text.strip() for text in self._until("}").split(":")]
        if len(numbers) > 2 or not all(re.fullmatch(r"\d{1,9}", text, re.ASCII) for text in numbers):
            raise self._bad(start, "a part is ${NAME:FROM} or ${NAME:FROM:COUNT} with whole numbers")
        first, *count = map(int, numbers)
        return value[first : first + count[0]] if count else value[first:]

    def _take(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def _bad(self, start: int, why: str) -> BadExpansion:
        shown = self._text[start:].splitlines()[0][:40]
        return BadExpansion(f"{shown!r}: {why}", self._text.count("\n", 0, start) + 1)


def _without(value: str, glob: str, operator: str) -> str:
    """Cut what fits `glob` from the beginning (`#`) or the end (`%`); doubled: the longest that fits."""
    fits = re.compile(translate(glob)).match
    cuts = range(len(value) + 1) if operator[0] == "#" else range(len(value), -1, -1)
    if len(operator) == 2:
        cuts = cuts[::-1]
    for cut in cuts:
        if operator[0] == "#" and fits(value[:cut]):
            return value[cut:]
        if operator[0] == "%" and fits(value[cut:]):
            return value[:cut]
    return value


def _replaced(value: str, old: str, new: str, operator: str) -> str:
    if not old:
        return value
    if operator == "/#":
        return new + value.removeprefix(old) if value.startswith(old) else value
    if operator == "/%":
        return value.removesuffix(old) + new if value.endswith(old) else value
    return value.replace(old, new, -1 if operator == "//" else 1)
