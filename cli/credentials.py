"""Logins, kept in the file that faas-cli keeps them in and in its format, so that one login serves both.

The file is `config.yml` in `$OPENFAAS_CONFIG`, else (where `CI` is true) in `./.openfaas`, else in `~/.openfaas`.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cli.address import normalise, same_gateways
from cli.errors import Misuse


class Login(NamedTuple):
    """What a request to a gateway carries: a `user` with a `password`, or a bearer `token`."""

    user: str = ""
    password: str = ""
    token: str = ""

    @property
    def authorization(self) -> str:
        """The value of the Authorization header."""
        if self.token:
            return f"Bearer {self.token}"
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where logins are kept."""
    if folder := environment.get("OPENFAAS_CONFIG"):
        return Path(folder).expanduser() / "config.yml"
    if environment.get("CI", "") in ("true", "1"):
        return Path(".openfaas") / "config.yml"
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".openfaas" / "config.yml"


def find_login(gateway: str, path: Path | None = None) -> Login | None:
    """Return the login kept for `gateway`; `localhost` and `127.0.0.1` find each other's. Raises Misuse for a broken file."""
    path = path or config_path()
    entries = {_key(entry): entry for entry in reversed(_entries(_load(path), path))}
    for url in same_gateways(gateway):
        if entry := entries.get(url):
            return _login(entry, path)
    return None


def save_login(gateway: str, user: str, password: str, path: Path | None = None) -> Path:
    """Keep a login for `gateway`, in place of an older one; other entries stay as they are. Return the file's path.

    Raises Misuse when the file is broken, OSError when it cannot be written.
    """
    path = path or config_path()
    config = _load(path)
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    entry = {"gateway": normalise(gateway), "auth": "basic", "token": token}
    entries = _entries(config, path)
    place = next((i for i, old in enumerate(entries) if _key(old) == entry["gateway"]), len(entries))
    others = [old for old in entries if _key(old) != entry["gateway"]]
    _write(path, {**config, "auths": [*others[:place], entry, *others[place:]]})
    return path


def forget_login(gateway: str, path: Path | None = None) -> bool:
    """Remove the login for `gateway` and its other spellings; tell whether there was one. Raises as `save_login`."""
    path = path or config_path()
    config = _load(path)
    entries = _entries(config, path)
    kept = [entry for entry in entries if _key(entry) not in same_gateways(gateway)]
    if len(kept) < len(entries):
        _write(path, {**config, "auths": kept})
    return len(kept) < len(entries)


def _key(entry: dict[str, Any]) -> str:
    return str(entry.get("gateway", "")).strip().lower().rstrip("/")


def _login(entry: dict[str, Any], path: Path) -> Login:
    token = str(entry.get("token") or "")
    if entry.get("auth") != "basic":
        return Login(token=token)
    try:
        user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise Misuse(f"{path}: the token for {entry['gateway']} is damaged: faas login -g {entry['gateway']}")
    return Login(user, password)


def _load(path: Path) -> dict[str, Any]:
    import yaml  # imported here: most commands are done sooner without it

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Misuse(f"{path} is not YAML; repair or remove it, then log in again") from None
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise Misuse(f"{path}: a mapping with 'auths' is wanted")
    return config


def _entries(config: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    auths = config.get("auths") or []
    if not isinstance(auths, list) or not all(isinstance(entry, dict) for entry in auths):
        raise Misuse(f"{path}: 'auths' must be a list of logins (gateway, auth, token)")
    return auths


def _write(path: Path, config: dict[str, Any]) -> None:
    """Replace the file at once, so that a reader or a crash never sees half of it; only its owner may read it."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")  # mkstemp's files are 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump(config, file, sort_keys=False, default_flow_style=False)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
