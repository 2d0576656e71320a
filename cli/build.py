"""A function's folder becomes a bundle on the gateway: packed here, built there, told line by line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from builder.context import SIGNATURE_HEADER, BuildConfig, InvalidContext, sign, write_context
from builder.images import InvalidImageName, image_name
from builder.templates import PROJECT_FOLDER, InvalidTemplate, Template, Templates, UnknownTemplate
from cli.errors import CliError, GatewayRefused, Misuse, NotLoggedIn
from cli.stack import StackFunction
from orchestration.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from cli.api import Gateway  # a client of HTTP, which builds of images do without

SILENCE_S = 660.0  # a little more than a gateway's own limit for one build, which then says what happened
BUSY_S = 600.0
LONGEST_PAUSE_S = 10.0
HELD_BYTES = 8 << 20
_PIECE_BYTES = 256 << 10


class BuildFailed(CliError):
    """The gateway could not build it. `log` is all that the build wrote."""

    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log


class CannotBuild(CliError):
    """The gateway is one that builds nothing (stock OpenFaaS), so only images that exist can be deployed to it."""


def image_of(function: StackFunction) -> str:
    """Return the image's name: the one given, else made of the function's name and, beyond the default one, its namespace.

    Raises Misuse.
    """
    place = function.namespace if function.namespace not in ("", DEFAULT_NAMESPACE) else ""
    name = function.image or (f"{place}/" if place else "") + f"{function.name}:latest"
    if not function.builds:
        return name
    try:
        return image_name(name)
    except InvalidImageName as error:
        raise Misuse(f"{function.name}: image: {error}") from None


def build(
    gateway: Gateway,
    function: StackFunction,
    copies: tuple[str, ...],
    told: Callable[[str], None],
    config: BuildConfig | None = None,
    payload_secret: bytes | None = None,
) -> tuple[str, list[str]]:
    """Build the function and return the image's name and the build's log; `told` gets each line of it as it comes.

    `config` replaces what the function says of itself. With a `payload_secret` the build is signed, and needs no login.
    Raises Misuse (the folder or the language), BuildFailed, CannotBuild, and what calls of a gateway raise.
    """
    template = template_of(function, gateway)
    config = config or config_of(function)
    sealed = _sealed(gateway, function) if function.build_secrets else None
    with tempfile.SpooledTemporaryFile(max_size=HELD_BYTES) as tar:
        pack(tar, function, template, copies, config, sealed)
        headers = {}
        if payload_secret is not None:
            tar.seek(0)
            headers[SIGNATURE_HEADER] = sign(tar, payload_secret)
        give_up_at = time.monotonic() + BUSY_S
        while (log := _post(gateway, function.name, tar, told, headers, may_wait=time.monotonic() < give_up_at)) is None:
            told("waiting: the gateway has many builds to do")
        return config.image, log


def config_of(function: StackFunction, *, no_cache: bool = False) -> BuildConfig:
    """Return what the function's build is asked for. Raises Misuse."""
    return BuildConfig(
        image=image_of(function), build_args=dict(function.build_args), platforms=function.platforms, no_cache=no_cache
    )


def secrets_of(function: StackFunction) -> dict[str, bytes]:
    """Return the function's build secrets, read from the files that the stack file names. Raises Misuse."""
    secrets = {}
    for name, path in function.build_secrets.items():
        try:
            secrets[name] = Path(path).expanduser().read_bytes()
        except OSError as error:
            raise Misuse(f"{function.name}: build_secrets.{name}: {path}: {error.strerror}") from None
    return secrets


def _sealed(gateway: Gateway, function: StackFunction) -> bytes:
    """Return the function's build secrets, which only the builder at the gateway can read. Raises Misuse and CannotBuild."""
    from builder.keys import PublicKey
    from builder.sealing import seal

    secrets = secrets_of(function)
    try:
        said = gateway.call("GET", "/publickey", timeout_s=30).json()
        key = PublicKey(str(said["key_id"]), str(said["algorithm"]), str(said["public_key"]))
    except (GatewayRefused, KeyError, TypeError):
        raise CannotBuild(f"{function.name}: {gateway.url} gives no key for build_secrets (GET /publickey)") from None
    try:
        return seal(secrets, key)
    except InvalidContext as error:
        raise Misuse(f"{function.name}: build_secrets: {error}") from None


def _post(
    gateway: Gateway, name: str, tar: IO[bytes], told: Callable[[str], None], more: Mapping[str, str], *, may_wait: bool
) -> list[str] | None:
    """Send the tar and follow the build; return its log, or None after a pause when the gateway had no room for it."""
    from cli.api import Reply, reason_of

    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(tar.seek(0, os.SEEK_END)),
        "Accept": "application/x-ndjson",
        **more,
    }
    tar.seek(0)
    signed = SIGNATURE_HEADER in more
    with gateway.stream("POST", "/build", body=_pieces(tar), headers=headers, timeout_s=SILENCE_S, login=not signed) as reply:
        if reply.status in (200, 202):
            return _follow(name, reply.lines(), told)
        whole = Reply(reply.status, reply.headers, reply.read())
    if whole.status in (404, 405, 501):
        raise CannotBuild(f"{gateway.url} does not build functions; deploy an image: faas deploy --image IMAGE --name NAME")
    if whole.status in (401, 403):
        if signed:
            raise NotLoggedIn(f"{gateway.url} does not accept the signature: is it signed with its own payload secret?")
        gateway.refuse(whole)
    if whole.status == 429 and may_wait:
        after = whole.headers.get("retry-after", "")
        time.sleep(min(LONGEST_PAUSE_S, int(after) if after.isdigit() else 1))
        return None
    raise BuildFailed(f"{name}: not built: {reason_of(whole)}", [])


def _follow(name: str, lines: Iterator[bytes], told: Callable[[str], None]) -> list[str]:
    """Read the build's report to its end and return its log. Raises BuildFailed unless it ends in success."""
    log: list[str] = []
    succeeded = False
    for line in filter(bytes.strip, lines):
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise BuildFailed(f"{name}: not built: the gateway's report is not readable: {line[:80]!r}", log)
        for text in said.get("log") or ():
            log.append(str(text).rstrip())
            told(log[-1])
        if said.get("status") == "failed":
            raise BuildFailed(f"{name}: not built: {said.get('error') or 'the gateway does not say why'}", log)
        succeeded = said.get("status") == "success"
    if not succeeded:
        raise BuildFailed(f"{name}: not built: the gateway's report ended in the middle", log)
    return log


def template_of(function: StackFunction, gateway: Gateway | None = None) -> Template:
    """Return the template that makes a bundle of the function.

    Raises Misuse for a language that none is for; where the gateway builds nothing and there is an image, CannotBuild.
    """
    try:
        return Templates(project=PROJECT_FOLDER).find_runnable(function.lang)
    except UnknownTemplate as error:
        if gateway is not None and function.image and _builds_nothing(gateway):
            raise CannotBuild(f"{gateway.url} does not build functions") from None
        raise Misuse(f"{function.name}: {error}") from None
    except InvalidTemplate as error:
        raise CliError(str(error)) from None


def _builds_nothing(gateway: Gateway) -> bool:
    try:
        gateway.call("GET", "/publickey", timeout_s=10)
    except GatewayRefused as error:
        return error.status in (404, 405)
    return False


def pack(
    tar: IO[bytes],
    function: StackFunction,
    template: Template,
    copies: tuple[str, ...],
    config: BuildConfig,
    sealed: bytes | None = None,
) -> None:
    """Write the function's build context to `tar`, with `sealed` build secrets. Raises Misuse."""
    with assembled(function, copies) as handler:
        try:
            write_context(tar, handler, template, config, sealed)
        except InvalidContext as error:
            raise Misuse(f"{function.name}: {error}") from None


@contextlib.contextmanager
def assembled(function: StackFunction, copies: tuple[str, ...]) -> Iterator[Path]:
    """The function's folder with the stack file's extra paths in it; a copy for as long as the context lasts, if there are any.

    Raises Misuse.
    """
    assert function.handler is not None
    if not copies:
        yield function.handler
        return
    with tempfile.TemporaryDirectory(prefix="faas-") as folder:
        handler = Path(folder) / "function"
        _copy(function.handler, copies, handler)
        yield handler


def _copy(source: Path, copies: tuple[str, ...], destination: Path) -> None:
    """Make `destination` the function's folder with the stack file's extra paths in it, under their own names."""
    shutil.copytree(source, destination, symlinks=True)
    root = Path.cwd()
    for path in map(Path, copies):
        if not path.resolve().is_relative_to(root):
            raise Misuse(f"configuration.copy: {path} is outside of the project's folder {root}")
        if path.is_dir():
            shutil.copytree(path, destination / path.resolve().relative_to(root), symlinks=True, dirs_exist_ok=True)
        elif path.is_file():
            target = destination / path.resolve().relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        else:
            raise Misuse(f"configuration.copy: there is no {path}")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
