"""npm as a child process: no scripts, no git, only the registry that the operator configured, within a time limit.

Install scripts are not run for the reason for which source distributions are not built (`builder.pip`): it would be
strangers' code as the platform's own user. npm is started in the caller's process group.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from builder.child import run_child

TIME_LIMIT_S = 300.0
OLDEST_NODE = 18

# What an operator may configure; the rest of npm's settings comes from the user's own .npmrc.
_PASSED_ON = frozenset(
    (
        "HOME", "LANG", "LC_ALL", "PATH", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "NPM_CONFIG_REGISTRY", "npm_config_registry", "NPM_CONFIG_USERCONFIG", "npm_config_userconfig", "NPM_TOKEN",
    )
)  # fmt: skip
_ALWAYS = {
    "NO_COLOR": "1",
    "NO_UPDATE_NOTIFIER": "1",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_git": "/bin/false",
    "npm_config_ignore_scripts": "true",
    "npm_config_logs_max": "0",
    "npm_config_progress": "false",
    "npm_config_replace_registry_host": "always",  # a lock may not send the platform to another host
    "npm_config_update_notifier": "false",
}
_ERROR = re.compile(r"^npm (?:ERR!|error)\s*")
_UNTELLING = re.compile(r"^(?:code |A complete log|errno|syscall|This is|In most|Note that|404\s*$)|^\s*$", re.IGNORECASE)


class NpmFailed(RuntimeError):
    """npm could not do it, or is not there; the message is one line that says why."""


def node_version() -> str:
    """Return the major version of this machine's Node.js, once it is known that npm is there too. Raises NpmFailed."""
    node = shutil.which("node")
    if node is None:
        raise NpmFailed("Node.js is not on this machine, which runs node functions: apt-get install nodejs npm")
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        major = said.removeprefix("v").partition(".")[0]
        if int(major) < OLDEST_NODE:
            raise NpmFailed(f"Node.js here is {said}; node functions need {OLDEST_NODE} or newer")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NpmFailed(f"{node} --version does not work: {error}") from None
    return major


def run_npm(
    arguments: Sequence[str],
    folder: Path,
    log: Callable[[str], None],
    *,
    cache: Path,
    offline: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    held: Iterable[int] = (),
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run npm in `folder` and give each line of its output to `log`. It inherits the descriptors `held`, such as a lock.

    `cache` is where npm keeps what it downloads; `offline` uses nothing else. `variables` are added to its environment.

    Raises NpmFailed, also when it takes longer than `time_limit_s`.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NpmFailed("npm is not on this machine, and package.json lists dependencies: apt-get install npm")
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON} | _ALWAYS | dict(variables or {})
    environment["npm_config_cache"] = os.fspath(cache)
    if offline:
        environment["npm_config_offline"] = "true"
    lines: list[str] = []

    def said(line: str) -> None:
        lines.append(line)
        log(line)

    try:
        deadline = time.monotonic() + time_limit_s
        code = run_child([npm, *arguments], said, deadline, folder=folder, environment=environment, held=held)
    except TimeoutError:
        raise NpmFailed(f"npm took longer than {time_limit_s:g} s") from None
    if code:
        raise NpmFailed(why_it_failed(lines, code))


def why_it_failed(lines: Sequence[str], code: int) -> str:
    """Return the one line of npm's output that says what is wrong."""
    errors = [_ERROR.sub("", line).strip() for line in lines if _ERROR.match(line)]
    if telling := [line for line in errors if not _UNTELLING.match(line)]:
        return telling[0]
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"npm ended with code {code}: {last.strip()}"
