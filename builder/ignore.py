"""Which files of a function's folder stay at home: `.pinnaceignore`, else `.dockerignore`, and what never belongs in a bundle.

One pattern a line, the last one that matches wins. `*`, `?` and `[…]` do not cross a slash, `**` does; `!` takes a file
back in; a trailing `/` matches folders only. A pattern with a slash before its end is counted from the function's
folder, one without matches at any depth. Comments start with `#`.
"""

from __future__ import annotations

import re
from pathlib import Path

IGNORE_FILES = (".pinnaceignore", ".dockerignore")
ALWAYS_IGNORED = frozenset(
    (
        *(".git", ".hg", ".svn", ".DS_Store", "__pycache__", ".venv", ".tox", "node_modules"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache"),
        *IGNORE_FILES,
    )
)


def always_ignored(name: str) -> bool:
    """Whether a file or folder of that name is never part of a bundle: it is made by tools, not by the author."""
    return name in ALWAYS_IGNORED or name.endswith((".pyc", ".pyo"))


class IgnoreRules:
    """The patterns of one ignore file."""

    def __init__(self, patterns: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool, bool]] = []
        for line in patterns.splitlines():
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            keep = line.startswith("!")
            pattern = line[keep:].strip()
            folders_only = pattern.endswith("/")
            anchored = "/" in pattern.strip("/") or pattern.startswith("/")
            pattern = pattern.strip("/").removeprefix("./")
            if pattern:
                self._rules.append((re.compile(("" if anchored else "(?:.*/)?") + _expression(pattern)), keep, folders_only))

    def ignores(self, relative: str, *, is_folder: bool) -> bool:
        """Whether the path (with `/`, from the function's folder) stays at home. An ignored folder takes all in it along."""
        ignored = False
        for pattern, keep, folders_only in self._rules:
            if (is_folder or not folders_only) and pattern.fullmatch(relative):
                ignored = not keep
        return ignored


def rules_of(folder: Path) -> IgnoreRules:
    """Return the rules that the folder's own ignore file states; none when it has none."""
    for name in IGNORE_FILES:
        if (file := folder / name).is_file():
            return IgnoreRules(file.read_text(encoding="utf-8", errors="replace"))
    return IgnoreRules("")


def _expression(pattern: str) -> str:
    out, at = [], 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif pattern[at] == "*":
            out.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            out.append("[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            characters = pattern[at + 1 : end]
            if _valid(characters):
                out.append(_character_class(characters))
                at = end + 1
            else:
                out.append(re.escape("["))
                at += 1
        else:
            out.append(re.escape(pattern[at]))
            at += 1
    return "".join(out)


def _character_class(characters: str) -> str:
    negated = characters[0] in "!^"
    escaped = re.sub(r"([\[\]\\^&~|])", r"\\\1", characters[1:] if negated else characters)
    return f"[^/{escaped}]" if negated else f"[{escaped}]"


def _valid(characters: str) -> bool:
    """Whether there is something in a `[…]` and its ranges go upwards; else its bracket is an ordinary character."""
    return bool(characters.lstrip("!^")) and all(low <= high for low, high in re.findall(r"(.)-(.)", characters))
