"""Images from a Dockerfile, by whichever container builder this machine has: BuildKit, buildah, podman or docker buildx.

A Dockerfile runs commands, in containers; that is their work, not ours. Everything else is built without them.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from builder.child import run_child

TIME_LIMIT_S = 1800.0
BUILDKIT_VARIABLE = "BUILDKIT_HOST"
TOOL_VARIABLE = "PINNACE_CONTAINER_TOOL"
_LINES_KEPT = 41


class ContainerToolFailed(RuntimeError):
    """There is no container builder here, or it failed; the message is one line. `log` are its last lines."""

    def __init__(self, message: str, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log = tuple(log)


class Kind(enum.StrEnum):
    BUILDKIT = "buildctl"
    BUILDAH = "buildah"
    PODMAN = "podman"
    DOCKER = "docker"


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be built: the folder `context` with a Dockerfile in it, as `image`.

    `secrets` are files by the id under which the Dockerfile mounts them. `push` sends the image to its registry.
    """

    context: Path
    image: str
    build_args: Mapping[str, str] = {}
    platforms: tuple[str, ...] = ()
    secrets: Mapping[str, Path] = {}
    no_cache: bool = False
    push: bool = False


class ContainerTool(msgspec.Struct, frozen=True):
    """A container builder: its kind, its program, and for BuildKit the address of its daemon."""

    kind: Kind
    program: str
    address: str = ""

    def commands(self, wanted: ImageRequest) -> list[list[str]]:
        """Return the command lines, one after the other, that build the image and push it if that is wanted."""
        if self.kind is Kind.BUILDKIT:
            return [self._buildctl(wanted)]
        if self.kind is Kind.DOCKER:
            where = ["--push"] if wanted.push else ["--load"] if len(wanted.platforms) <= 1 else []
            return [[self.program, "buildx", "build", "--progress=plain", "--tag", wanted.image, *where, *_flags(wanted)]]
        several = len(wanted.platforms) > 1
        name = ["--manifest", wanted.image] if several else ["--tag", wanted.image]
        commands = [[self.program, "build", *name, *_flags(wanted)]]
        if several:  # a manifest list of that name would be added to
            commands.insert(0, [self.program, "manifest", "rm", wanted.image])
        if wanted.push and several:
            commands.append([self.program, "manifest", "push", "--all", wanted.image, f"docker://{wanted.image}"])
        elif wanted.push:
            commands.append([self.program, "push", wanted.image])
        return commands

    def push(self, image: str, log: Callable[[str], None], *, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Push an image that was built before; BuildKit keeps none, so there it is an error. Raises ContainerToolFailed."""
        if self.kind is Kind.BUILDKIT:
            raise ContainerToolFailed("BuildKit pushes an image when it builds it: use faas publish")
        _run([self.program, "push", image], log, time.monotonic() + time_limit_s, time_limit_s)

    def build(self, wanted: ImageRequest, log: Callable[[str], None], *, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Build the image, and push it if that is wanted; `log` gets each line. Raises ContainerToolFailed."""
        deadline = time.monotonic() + time_limit_s
        for command in self.commands(wanted):
            is_cleaning = command[1:3] == ["manifest", "rm"]  # of what may not be there
            with contextlib.suppress(*([ContainerToolFailed] if is_cleaning else [])):
                _run(command, log, deadline, time_limit_s)

    def _buildctl(self, wanted: ImageRequest) -> list[str]:
        options = [f"build-arg:{name}={value}" for name, value in sorted(wanted.build_args.items())]
        if wanted.platforms:
            options.append(f"platform={','.join(wanted.platforms)}")
        return [
            *(self.program, "--addr", self.address, "build", "--progress=plain", "--frontend=dockerfile.v0"),
            *("--local", f"context={wanted.context}", "--local", f"dockerfile={wanted.context}"),
            *(part for option in options for part in ("--opt", option)),
            *(part for name, path in sorted(wanted.secrets.items()) for part in ("--secret", f"id={name},src={path}")),
            *(["--no-cache"] if wanted.no_cache else []),
            *("--output", f"type=image,name={wanted.image},push={'true' if wanted.push else 'false'}"),
        ]


def find_tool(environ: Mapping[str, str] = os.environ) -> ContainerTool:
    """Return the container builder to use: the one that PINNACE_CONTAINER_TOOL names, else the first that is there.

    Raises ContainerToolFailed, which says what to install.
    """
    path, address = environ.get("PATH"), environ.get(BUILDKIT_VARIABLE, "")
    asked = environ.get(TOOL_VARIABLE, "")
    if asked and asked not in tuple(Kind):
        raise ContainerToolFailed(f"{TOOL_VARIABLE}={asked!r}: one of {', '.join(Kind)}")
    for kind in [Kind(asked)] if asked else Kind:
        program = shutil.which(kind, path=path)
        if program is None or (kind is Kind.BUILDKIT and not address):
            continue
        if kind is Kind.DOCKER and not _answers([program, "buildx", "version"]):
            continue
        return ContainerTool(kind, program, address if kind is Kind.BUILDKIT else "")
    if asked == Kind.BUILDKIT or address:
        raise ContainerToolFailed(f"BuildKit needs its client buildctl in PATH and its daemon's address in {BUILDKIT_VARIABLE}")
    if asked:
        raise ContainerToolFailed(f"{TOOL_VARIABLE} asks for {asked}, which is not on this machine")
    raise ContainerToolFailed(
        "a Dockerfile is built by a container builder, and none is on this machine: install buildah (apt-get install buildah), "
        f"podman or docker with buildx, or give the address of a BuildKit in {BUILDKIT_VARIABLE}"
    )


def _flags(wanted: ImageRequest) -> list[str]:
    """What buildah, podman and docker buildx call the same; the context is last."""
    return [
        *(["--platform", ",".join(wanted.platforms)] if wanted.platforms else []),
        *(part for name, value in sorted(wanted.build_args.items()) for part in ("--build-arg", f"{name}={value}")),
        *(part for name, path in sorted(wanted.secrets.items()) for part in ("--secret", f"id={name},src={path}")),
        *(["--no-cache"] if wanted.no_cache else []),
        str(wanted.context),
    ]


def _run(command: Sequence[str], log: Callable[[str], None], deadline: float, time_limit_s: float) -> None:
    lines: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)

    def said(line: str) -> None:
        lines.append(line)
        log(line)

    program = Path(command[0]).name
    try:
        code = run_child(command, said, deadline)
    except TimeoutError:
        raise ContainerToolFailed(f"{program} took longer than {time_limit_s:g} s", tuple(lines)) from None
    if code:
        last = next((line for line in reversed(lines) if line.strip()), f"it ended with code {code}")
        raise ContainerToolFailed(f"{program} {command[1]}: {last.strip()}", tuple(lines))


def _answers(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
