"""What build secrets are for: where packages come from, and the logins for there.

| name | becomes |
|---|---|
| `pip.conf`, `pipconf`, `pip_conf` | pip's configuration for this build |
| `pip_index_url`, `pip_extra_index_url` | pip's index, and one more |
| `netrc`, `.netrc` | logins by host, for pip |
| `npmrc`, `.npmrc` | npm's configuration for this build |

They exist as files of a folder that only the builder can read, for as long as the build lasts, and are in no layer. What
was fetched with them is kept apart from what everybody's builds share: another index may give a name another package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

_FILES = {
    "pip.conf": "PIP_CONFIG_FILE",
    "pipconf": "PIP_CONFIG_FILE",
    "pip_conf": "PIP_CONFIG_FILE",
    "netrc": "NETRC",
    ".netrc": "NETRC",
    "npmrc": "NPM_CONFIG_USERCONFIG",
    ".npmrc": "NPM_CONFIG_USERCONFIG",
}
_VALUES = {"pip_index_url": "PIP_INDEX_URL", "pip_extra_index_url": "PIP_EXTRA_INDEX_URL"}


@dataclass(frozen=True)
class BuildSecrets:
    """`variables` are for the environment of what fetches packages; `place` names the folder of what they fetch.

    Both are empty without secrets. `unused` are names that mean nothing here.
    """

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    place: str = ""
    unused: tuple[str, ...] = ()


NO_SECRETS = BuildSecrets()


def write_secrets(secrets: Mapping[str, bytes], folder: Path) -> BuildSecrets:
    """Put the secrets into `folder`, which is the caller's to remove, and return what they come to."""
    variables: dict[str, str] = {}
    unused = []
    for number, (name, value) in enumerate(sorted(secrets.items())):
        key = name.lower()
        if key in _VALUES:
            variables[_VALUES[key]] = value.decode(errors="replace").strip()
        elif key in _FILES:
            path = folder / str(number)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(value)
            variables[_FILES[key]] = os.fspath(path)
        else:
            unused.append(name)
    if not variables:
        return BuildSecrets(unused=tuple(unused))
    content = {name: hashlib.sha256(value).hexdigest() for name, value in secrets.items()}
    place = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
    return BuildSecrets(variables, place, tuple(unused))
