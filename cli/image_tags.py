"""`--tag`: the tag of an image made of the commit, or of what is in the function's folder; and what git says of a folder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Literal, get_args

from builder.images import image_name
from cli.build import image_of
from cli.errors import Misuse
from cli.stack import StackFunction

Tagging = Literal["latest", "sha", "branch", "describe", "digest"]
TAGGINGS = get_args(Tagging)
GIT_TIMEOUT_S = 10.0
LONGEST_TAG = 128
_DIGEST_CHARACTERS = 32


def pushed_name(function: StackFunction, tagging: Tagging) -> str:
    """Return the name under which the function's image is pushed, and by which clusters find it. Raises Misuse.

    It is made of the stack file and `tagging` alone: a command's `-n` says where the function runs, not what its image is
    called, so that what `faas publish` pushed once can be deployed to several namespaces.
    """
    return tagged(image_of(function), tagging, function.handler)


def tagged(image: str, tagging: Tagging, handler: Path | None) -> str:
    """Return the image's full name with the tag that `tagging` makes of its own one, as faas-cli makes them.

    `latest` leaves it; `sha`, `branch` and `describe` add what git says of the function's folder: `1.0-COMMIT`,
    `1.0-BRANCH-COMMIT`, `1.0-DESCRIPTION`; `digest` replaces it by a hash of the folder. Raises Misuse.
    """
    name = image_name(image)
    if tagging == "latest":
        return name
    if handler is None:
        raise Misuse(f"--tag {tagging} is for functions that are built, and {image} is not")
    bare, _, tag = name.rpartition(":")
    if tagging == "digest":
        from builder.layers import folder_digest

        return f"{bare}:{folder_digest(handler).removeprefix('sha256:')[:_DIGEST_CHARACTERS]}"
    commit = _git(handler, "rev-parse", "--short", "HEAD")
    if tagging == "sha":
        said = commit
    elif tagging == "branch":
        said = f"{_git(handler, 'rev-parse', '--abbrev-ref', 'HEAD')}-{commit}"
    else:
        said = _git(handler, "describe", "--tags", "--always")
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", said)
    return f"{bare}:{f'{tag}-{clean}'[:LONGEST_TAG]}"


def revision(folder: Path) -> str | None:
    """Return the commit that the folder is at, with `-dirty` where it differs from it; None outside of a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--", ".")
    except Misuse:
        return None
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise Misuse("--tag asks git, which is not installed") from None
    except subprocess.TimeoutExpired:
        raise Misuse(f"git {arguments[0]} took longer than {GIT_TIMEOUT_S:g} s") from None
    if result.returncode:
        raise Misuse(f"--tag: git says of {folder}: {(result.stderr.strip().splitlines() or ['nothing'])[-1]}")
    return result.stdout.strip()
