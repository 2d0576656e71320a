"""A build context: the tar that carries a function's code to a gateway's `POST /build`, and its signature.

    context/template.yml                 the template's own, which names the language; a template of the project's whole
    context/function/…                   the function's folder, without what its ignore file lists
    com.openfaas.docker.config           JSON: image, buildArgs, …

It is OpenFaaS's format. The same folder always gives the same bytes: sorted, without times and owners.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from builder.ignore import IgnoreRules, always_ignored, rules_of
from builder.templates import HANDLER_FOLDER, TEMPLATE_FILE, Template

CONFIG_NAME = "com.openfaas.docker.config"
SECRETS_NAME = "com.openfaas.secrets"
CONTEXT_FOLDER = "context"
SIGNATURE_HEADER = "X-Build-Signature"

_CHUNK_BYTES = 1 << 20


class InvalidContext(ValueError):
    """A function's folder or a received tar that cannot be built; one line says what is wrong and where."""


class BuildConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a build is asked for. `no_cache` resolves requirements anew; a stock client never sends it.

    `platforms` are OCI names such as `linux/amd64`; with `skip_push` an image is built and goes nowhere.
    """

    image: str
    build_args: dict[str, str] = {}
    platforms: tuple[str, ...] = ()
    skip_push: bool = False
    no_cache: bool = False


def write_context(file: IO[bytes], handler: Path, template: Template, config: BuildConfig, sealed: bytes | None = None) -> None:
    """Write the context of the function in the folder `handler` to `file`; `sealed` are build secrets (`builder.sealing`).

    Raises InvalidContext: no such folder, a link that leaves it, a file that cannot be read or is no file.
    """
    if not handler.is_dir():
        raise InvalidContext(f"{handler} is not a folder" if handler.exists() else f"there is no folder {handler}")
    prefix = f"{CONTEXT_FOLDER}/{HANDLER_FOLDER if template.built_in else template.handler_folder}"
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add_folder(tar, CONTEXT_FOLDER)
        if template.built_in:
            _add_bytes(tar, f"{CONTEXT_FOLDER}/{TEMPLATE_FILE}", f"language: {template.language}\n".encode())
        else:
            _add_template(tar, template)
        _add_folder(tar, prefix)
        for path, relative in _files(handler, rules_of(handler)):
            _add(tar, path, f"{prefix}/{relative}", handler)
        _add_bytes(tar, CONFIG_NAME, msgspec.json.encode(config))
        if sealed is not None:
            _add_bytes(tar, SECRETS_NAME, sealed)


def _add_template(tar: tarfile.TarFile, template: Template) -> None:
    """Add a template that the receiver does not have, without its skeleton of a function."""
    skeleton = template.handler_folder.strip("/")
    for path, relative in _files(template.folder, IgnoreRules("")):
        if relative != skeleton and not relative.startswith(f"{skeleton}/"):
            _add(tar, path, f"{CONTEXT_FOLDER}/{relative}", template.folder)


def sign(file: IO[bytes], secret: bytes) -> str:
    """Return the value of `X-Build-Signature` for the rest of `file`. The secret's outer white space does not count.

    Raises InvalidContext when nothing is left of the secret.
    """
    key = secret.strip()
    if not key:
        raise InvalidContext("the payload secret is empty")
    code = hmac.new(key, digestmod=hashlib.sha256)
    while chunk := file.read(_CHUNK_BYTES):
        code.update(chunk)
    return f"sha256={code.hexdigest()}"


def _files(handler: Path, rules: IgnoreRules) -> Iterator[tuple[Path, str]]:
    """What belongs to the function, with its path from `handler`, each folder before what is in it."""
    pending = [""]
    found: list[tuple[Path, str]] = []
    while pending:
        parent = pending.pop()
        with os.scandir(handler / parent) as entries:
            for entry in entries:
                relative = f"{parent}/{entry.name}" if parent else entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if always_ignored(entry.name) or rules.ignores(relative, is_folder=is_folder):
                    continue
                found.append((Path(entry.path), relative))
                if is_folder:
                    pending.append(relative)
    yield from sorted(found, key=lambda item: item[1].split("/"))


def _add(tar: tarfile.TarFile, path: Path, name: str, handler: Path) -> None:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        _add_folder(tar, name)
    elif stat.S_ISLNK(status.st_mode):
        target = path.readlink()
        if target.is_absolute() or not path.resolve().is_relative_to(handler.resolve()):
            raise InvalidContext(f"{path} is a link to {target}, outside of the function's folder: copy the file into it")
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.fspath(target), 0o777
        tar.addfile(entry)
    elif stat.S_ISREG(status.st_mode):
        try:
            with path.open("rb") as file:
                entry = tarfile.TarInfo(name)
                entry.size = os.fstat(file.fileno()).st_size
                entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                tar.addfile(entry, file)
        except OSError as error:
            raise InvalidContext(f"{path} cannot be read: {error.strerror or error}") from None
    else:
        raise InvalidContext(f"{path} is neither a file nor a folder nor a link; list it in .pinnaceignore")


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(entry)


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
