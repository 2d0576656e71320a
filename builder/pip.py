"""pip as a child process: wheels only, within a time limit, its output as lines, its failure as one sentence.

Source distributions are not built: that would run a stranger's code as the platform's own user, where handlers get
a user of their own. pip is started in the caller's process group, so that whoever ends that group ends it too.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from builder.child import run_child
from builder.platforms import Target

TIME_LIMIT_S = 300.0
_TARGET_PIP = Path(__file__).with_name("target_pip.py")

# What an operator may configure; anything else in the environment could change where pip installs or what it runs.
_PASSED_ON = frozenset(
    (
        "HOME", "LANG", "LC_ALL", "PATH", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NETRC",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS",
        "PIP_INDEX_URL", "PIP_KEYRING_PROVIDER", "PIP_NO_INDEX", "PIP_PROXY", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_TRUSTED_HOST",
    )
)  # fmt: skip
_ALWAYS = {
    "NO_COLOR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",  # downloaded wheels are kept by the store, where the quota counts them
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}
_UNREACHABLE = re.compile(r"Retrying \(.*(?:NewConnectionError|Connection|Timeout|ProxyError|SSLError|Name)", re.IGNORECASE)

_VERSIONS = re.compile(r"\(from versions: (.*)\)")
VERSIONS_SHOWN = 5


class PipFailed(RuntimeError):
    """pip could not do it; the message is one line that says why."""


def run_pip(
    arguments: Sequence[str],
    folder: Path,
    log: Callable[[str], None],
    *,
    time_limit_s: float = TIME_LIMIT_S,
    held: Iterable[int] = (),
    target: Target | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run pip in `folder` and give each line of its output to `log`. It inherits the descriptors `held`, such as a lock.

    `target` makes it choose wheels for another platform (for `download` only); `variables` are added to its environment.
    Raises PipFailed, also when it takes longer than `time_limit_s`.
    """
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON} | _ALWAYS | dict(variables or {})
    command = [sys.executable, "-I", "-m", "pip", *arguments]
    if target is not None:
        markers = json.dumps(target.marker_environment())
        fits = [f"--python-version={target.python}", "--implementation=cp"]
        fits += [f"--abi={abi}" for abi in target.abis()]
        fits += [f"--platform={name}" for name in target.wheel_platforms()]
        command = [sys.executable, "-I", os.fspath(_TARGET_PIP), markers, *arguments, *fits]
    lines: list[str] = []

    def said(line: str) -> None:
        lines.append(line)
        log(_VERSIONS.sub(_newest, line))

    try:
        deadline = time.monotonic() + time_limit_s
        code = run_child(command, said, deadline, folder=folder, environment=environment, held=held)
    except TimeoutError:
        raise PipFailed(f"pip took longer than {time_limit_s:g} s") from None
    if code:
        raise PipFailed(why_it_failed(lines, code, target))


def _newest(versions: re.Match[str]) -> str:
    """Of a list of all versions that there are, often a hundred, the last ones."""
    listed = versions[1].split(", ")
    return versions[0] if len(listed) <= VERSIONS_SHOWN else f"(from versions: …, {', '.join(listed[-VERSIONS_SHOWN:])})"


def why_it_failed(lines: Sequence[str], code: int, target: Target | None = None) -> str:
    """Return the one line of pip's output that says what is wrong; `target` is what wheels had to fit."""
    errors = [line.partition("ERROR:")[2].strip() for line in lines if line.startswith("ERROR:")]
    errors = [error for error in errors if error and not error.startswith("Exception")]
    if missing := [error for error in errors if error.startswith("No matching distribution found")]:
        if any(_UNREACHABLE.search(line) for line in lines):
            return f"the package index cannot be reached, so pip says: {missing[-1]}"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fits = str(target) if target is not None else f"Python {version} on {os.uname().machine}"
        there = [found[1] for error in errors if (found := _VERSIONS.search(error)) and found[1] != "none"]
        newest = f"; the newest is {there[-1].rpartition(', ')[2]}" if there else ""
        return f"{missing[-1]}{newest} (wheels for {fits}; source distributions are not built)"
    if conflict := [error for error in errors if "conflicting dependencies" in error]:
        return conflict[0]
    telling = [error for error in errors if not error.startswith("ResolutionImpossible")]
    if telling:
        return telling[0]
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"pip ended with code {code}: {last.strip()}"
