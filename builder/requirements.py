"""A function's requirements.txt, read and judged before pip sees it.

Accepted are names with versions, extras, markers and hashes, `-r FILE` and `-c FILE` inside the function's folder, and
the options `--pre`, `--prefer-binary`, `--require-hashes`, `--only-binary …`. Refused are paths, URLs, editable
installs and package indexes: a path would mean the gateway's disk, and where packages come from is the operator's
decision, made in pip's own configuration (`PIP_INDEX_URL`, `PIP_FIND_LINKS`, pip.conf), because downloaded wheels are
shared by all functions.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

import msgspec

REQUIREMENTS_FILE = "requirements.txt"

_LARGEST_FILE_BYTES = 1 << 20
_DEEPEST = 8
_ACCEPTED_OPTIONS = ("--pre", "--prefer-binary", "--require-hashes")
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*"  # name
    r"(?:\[[A-Za-z0-9._,\s-]*\])?\s*"  # extras
    r"(?:\(?[<>=!~][^;@/\\]*?\)?)?\s*"  # versions
    r"(?:;(?:(?!\s-)[^@])*)?"  # markers
    r"(?:\s+--hash=[a-z0-9]+:[0-9a-f]+)*\s*"
)


class InvalidRequirements(ValueError):
    """A requirements file with something in it that is not accepted; the message names file, line and remedy."""


class Requirements(msgspec.Struct, frozen=True):
    """What pip is to install: its lines, in order, and those of constraint files. Both empty: nothing."""

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    @property
    def names_packages(self) -> bool:
        return any(not line.startswith("-") for line in self.lines)

    def __add__(self, other: Requirements) -> Requirements:
        """Both: a template's and a function's."""
        return Requirements((*self.lines, *other.lines), (*self.constraints, *other.constraints))

    def digest(self, *context: str) -> str:
        """Return the hexadecimal hash of the requirements in a context, such as a Python version."""
        content = msgspec.json.encode([self.lines, self.constraints, context])
        return hashlib.sha256(content).hexdigest()


def read_requirements(folder: Path) -> Requirements:
    """Return what `requirements.txt` in the function's folder asks for; nothing when there is none.

    Raises InvalidRequirements.
    """
    lines: list[str] = []
    constraints: list[str] = []
    if (folder / REQUIREMENTS_FILE).exists():
        _read(folder, PurePosixPath(REQUIREMENTS_FILE), lines, constraints, depth=0)
    return Requirements(tuple(lines), tuple(constraints))


def _read(folder: Path, name: PurePosixPath, lines: list[str], constraints: list[str], depth: int) -> None:
    for number, line in _logical_lines(folder, name):
        where = f"{name} line {number}"
        option, _, value = (part.strip() for part in _split_option(line))
        if option in ("-r", "--requirement", "-c", "--constraint"):
            if depth == _DEEPEST:
                raise InvalidRequirements(f"{where}: files are nested more than {_DEEPEST} deep")
            nested = _beside(folder, name, value, where)
            _read(folder, nested, lines if option in ("-r", "--requirement") else constraints, constraints, depth + 1)
        elif option in _ACCEPTED_OPTIONS and not value:
            lines.append(option)
        elif option == "--only-binary":
            continue  # it is so for all packages here
        elif option.startswith("-"):
            raise InvalidRequirements(f"{where}: {_why_no_option(option)}")
        else:
            lines.append(_checked(line, where))


def _logical_lines(folder: Path, name: PurePosixPath) -> list[tuple[int, str]]:
    """The lines that say something, without comments, joined where they end with a backslash."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InvalidRequirements(f"{name} is outside of the function's folder")
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise InvalidRequirements(f"{name} is larger than {_LARGEST_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InvalidRequirements(f"{name} cannot be read: {reason}") from None
    found: list[tuple[int, str]] = []
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first or number
        line = re.sub(r"(^|\s)#.*$", "", line)
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        joined += line
        if joined.strip():
            found.append((first, " ".join(joined.split())))
        joined, first = "", 0
    if joined.strip():
        found.append((first, " ".join(joined.split())))
    return found


def _split_option(line: str) -> tuple[str, str, str]:
    if not line.startswith("-"):
        return "", "", line
    if not line.startswith("--") and len(line) > 2 and line[2] not in " =":
        return line[:2], "", line[2:]  # -rother.txt
    option, _, value = line.replace("=", " ", 1).partition(" ")
    return option, "", value


def _beside(folder: Path, name: PurePosixPath, value: str, where: str) -> PurePosixPath:
    target = name.parent / value
    if not value or "://" in value or target.is_absolute() or ".." in target.parts:
        raise InvalidRequirements(f"{where}: {value!r} is not a file in the function's folder")
    if not (folder / target).is_file():
        raise InvalidRequirements(f"{where}: there is no file {str(target)!r} in the function's folder")
    return target


def _why_no_option(option: str) -> str:
    if option in ("-e", "--editable"):
        return "editable installs are not accepted: put the package's code into the function's folder"
    if option in ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host"):
        return f"{option} is not accepted: where packages come from is set for the whole gateway (as with PIP_INDEX_URL)"
    return f"the option {option} is not accepted"


def _checked(line: str, where: str) -> str:
    shown = line if len(line) <= 100 else line[:97] + "..."
    if "${" in line:
        raise InvalidRequirements(f"{where}: variables are not replaced in {shown!r}")
    if _REQUIREMENT.fullmatch(line):
        return line
    if "://" in line or "@" in line or line.startswith(("file:", "git+")):
        raise InvalidRequirements(f"{where}: {shown!r} names a URL; give a name and version that the package index has")
    if "/" in line or line.startswith(".") or "\\" in line:
        raise InvalidRequirements(f"{where}: {shown!r} is a path; put the package's code into the function's folder")
    raise InvalidRequirements(f"{where}: {shown!r} is not a requirement such as requests==2.32.0")
