"""Logins for registries, from where Docker and its helpers keep them: nothing is stored here.

For a host the order is Docker's: a helper for this host (`credHelpers`), the helper for all (`credsStore`), the file's own
entry (`auths`). A helper is a program `docker-credential-NAME` that is asked on stdin and answers with JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.registry.errors import NotAuthorized
from builder.registry.reference import HUB

HELPER_TIMEOUT_S = 30.0
HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105  # a helper's word for "the secret is an identity token"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Credentials:
    """A user and password, or an identity token in their place (then `user` is empty)."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where Docker's configuration is: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`."""
    folder = environment.get("DOCKER_CONFIG")
    return Path(folder).expanduser() / "config.json" if folder else Path.home() / ".docker" / "config.json"


def find_credentials(registry: str, path: Path | None = None) -> Credentials | None:
    """Return the login for a registry (a host with an optional port), or None where none is kept.

    Raises NotAuthorized when the file or a helper cannot be used: going on without a login would tell the wrong story.
    """
    path = path or config_path()
    config = _read(path)
    keys = _keys(registry)
    helpers = config.get("credHelpers")
    helper = next((helpers[key] for key in keys if key in helpers), None) if isinstance(helpers, dict) else None
    helper = helper or config.get("credsStore")
    if helper and (found := _ask(str(helper), HUB_KEY if registry == HUB else registry)):
        return found
    auths = config.get("auths")
    entry = next((auths[key] for key in keys if key in auths), None) if isinstance(auths, dict) else None
    return _from_entry(entry, path, registry) if isinstance(entry, dict) else None


def _keys(registry: str) -> tuple[str, ...]:
    """The names under which a host may stand in the file, as written by `docker login` through the years."""
    if registry == HUB:
        return (HUB_KEY, HUB, f"https://{HUB}", "index.docker.io", "registry-1.docker.io")
    return (registry, *(f"{scheme}://{registry}{end}" for scheme in ("https", "http") for end in ("", "/", "/v1/", "/v2/")))


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise NotAuthorized(f"the logins in {path} cannot be read: {reason}") from None
    return config if isinstance(config, dict) else {}


def _from_entry(entry: dict[str, Any], path: Path, registry: str) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(identity_token=str(token))
    if entry.get("username") is not None and entry.get("password") is not None:
        return Credentials(str(entry["username"]), str(entry["password"]))
    if not entry.get("auth"):
        return None  # what stays in the file when a helper keeps the secret
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise NotAuthorized(
            f"the login for {registry} in {path} is not base64 of USER:PASSWORD; log in again: docker login {registry}"
        )
    return Credentials(user, password.rstrip("\0"))


def _ask(helper: str, registry: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    if not _HELPER_NAME.fullmatch(helper):
        raise NotAuthorized(f"{helper!r} in Docker's configuration is not the name of a credential helper")
    try:
        result = subprocess.run(
            [program, "get"], input=registry.encode(), capture_output=True, timeout=HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise NotAuthorized(f"Docker's configuration names {program} for {registry}, which is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"no answer within {HELPER_TIMEOUT_S:g} s" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise NotAuthorized(f"{program} did not give the login for {registry}: {reason}") from None
    said = result.stdout.decode(errors="replace").strip()
    if result.returncode:
        if "not found" in said or "not found" in result.stderr.decode(errors="replace"):
            return None
        raise NotAuthorized(
            f"{program} did not give the login for {registry}: {said[:200] or f'exit code {result.returncode}'}"
        )
    try:
        answer = json.loads(said)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise NotAuthorized(f"{program} gave no login for {registry} but something else") from None
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)
