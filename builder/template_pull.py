"""Templates from elsewhere: a git repository, or a folder, in OpenFaaS's layout (`template/LANGUAGE/template.yml`).

A repository is fetched at one commit, which is written down beside each template (`meta.json`). It comes from a stranger:
no hooks, submodules or large files are followed, what is fetched is bounded while it comes, and a template that has links
out of its folder, odd names, or too many files is refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from builder.disk import tree_size_bytes
from builder.templates import TEMPLATE_FILE, Template, read_template

META_FILE = "meta.json"
FOLDER = "template"

MOST_BYTES = 200 << 20
MOST_TEMPLATE_BYTES = 50 << 20
MOST_FILES = 5000
TIME_LIMIT_S = 180.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_SCHEMES = ("https://", "http://", "ssh://", "git://", "file://")
_LOGIN = re.compile(r"^(https?://)[^/@]*@")
_LIKE_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s]+")
_SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "protocol.ext.allow=never", "core.autocrlf=false")
"""What a repository's own settings may not say otherwise: the first three could run programs."""
_LOOK_EVERY_S = 0.1


class PullFailed(RuntimeError):
    """The templates cannot be had, or are not acceptable; one line says why."""


class Source(msgspec.Struct, frozen=True):
    """Where templates come from: a URL or a folder, and the branch, tag or commit (`sha-HEX`, as in OpenFaaS), if any."""

    url: str
    ref: str = ""

    @property
    def shown(self) -> str:
        """The URL without the login that may be in it, for people and files."""
        return _LOGIN.sub(r"\1", self.url)

    @property
    def is_folder(self) -> bool:
        return "://" not in self.url and not _LIKE_SCP.fullmatch(self.url)


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a pulled template came from, in the file that OpenFaaS's client writes too. `sha` is the commit."""

    repository: str
    ref_name: str = ""
    sha: str = ""
    written_at: str = ""


class Pulled(msgspec.Struct, frozen=True):
    """The templates that are in the project now, those that were there and stay, and the commit (empty for a folder)."""

    templates: tuple[Template, ...]
    kept: tuple[str, ...]
    commit: str


def parse_source(text: str) -> Source:
    """Return the source that `URL[#REF]` names. Raises PullFailed."""
    url, _, ref = text.strip().partition("#")
    if not url or url.startswith("-") or any(c.isspace() or ord(c) < 32 for c in url):
        raise PullFailed(f"{text!r} is no source of templates: write URL[#REF], or a folder")
    if ref and not (_REF.fullmatch(ref) and ".." not in ref):
        raise PullFailed(f"{ref!r} is no branch, tag or commit")
    source = Source(url, ref)
    if "://" in url and not url.startswith(_SCHEMES):
        raise PullFailed(f"{source.shown}: only {', '.join(_SCHEMES)} and user@host:path are pulled from")
    if source.is_folder and not Path(url).is_dir():
        raise PullFailed(f"there is no folder {url}; for a repository write its URL, such as https://HOST/OWNER/NAME")
    return source


def pull(
    source: Source,
    project: Path,
    *,
    only: str = "",
    overwrite: bool = True,
    now: Callable[[], float] = time.time,
    time_limit_s: float = TIME_LIMIT_S,
) -> Pulled:
    """Copy the source's templates (or the one called `only`) into the folder `project`, as NAME, or NAME@REF for a ref.

    Raises PullFailed; then nothing was changed but templates that are whole.
    """
    with tempfile.TemporaryDirectory(prefix="faas-template-") as temporary:
        root, commit = Path(source.url), ""
        if not source.is_folder or (source.ref and (root / ".git").exists()):
            root = Path(temporary) / "repository"
            commit = _fetch(source, root, time_limit_s)
        elif source.ref:
            raise PullFailed(f"{source.shown} is a plain folder, which has no {source.ref}")
        elif (root / ".git").exists() and not _git(["-C", os.fspath(root), "status", "--porcelain"], root, time_limit_s):
            commit = _git(["-C", os.fspath(root), "rev-parse", "HEAD"], root, time_limit_s)
        folders = _folders(root, source, only)
        for folder in folders:
            _check(folder)
        meta = Meta(
            repository=source.shown if not source.is_folder else os.fspath(Path(source.url).resolve()),
            ref_name=source.ref,
            sha=commit,
            written_at=datetime.fromtimestamp(now(), UTC).isoformat(),
        )
        made, kept = [], []
        for folder in folders:
            name = f"{folder.name}@{source.ref.replace('/', '-')}" if source.ref else folder.name
            if (project / name).exists() and not overwrite:
                kept.append(name)
                continue
            _place(folder, project, name, meta)
            made.append(read_template(project / name, built_in=False))
        return Pulled(tuple(made), tuple(kept), commit)


def read_meta(template: Template) -> Meta | None:
    """Return where a template of the project came from, None for one that was not pulled."""
    try:
        return msgspec.json.decode((template.folder / META_FILE).read_bytes(), type=Meta)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _fetch(source: Source, destination: Path, time_limit_s: float) -> str:
    """Fetch the source at its ref into `destination` and return the commit."""
    url = os.fspath(Path(source.url).resolve()) if source.is_folder else source.url
    deadline = time.monotonic() + time_limit_s

    def git(*arguments: str) -> str:
        try:
            return _git(list(arguments), destination, max(0.1, deadline - time.monotonic()))
        except PullFailed as error:
            raise PullFailed(str(error).replace(source.url, source.shown)) from None

    commit = source.ref.removeprefix("sha-")
    if source.ref and _COMMIT.fullmatch(commit):
        git("init", "--quiet", "--template=", str(destination))
        in_it = ("-C", str(destination))
        try:
            git(*in_it, "fetch", "--quiet", "--depth=1", "--no-tags", "--", url, commit)
            git(*in_it, "checkout", "--quiet", "--detach", "FETCH_HEAD")
        except PullFailed:  # a server that gives single commits to nobody, or a commit in short
            try:
                git(*in_it, "fetch", "--quiet", "--", url, "+refs/heads/*:refs/remotes/origin/*")
                git(*in_it, "checkout", "--quiet", "--detach", commit)
            except PullFailed as error:
                if not error.args[0].startswith("git:"):
                    raise
                raise PullFailed(f"{source.shown} has no commit {commit}, or cannot be read ({error})") from None
    else:
        branch = ("--branch", source.ref) if source.ref else ()
        git(
            "clone", "--quiet", "--depth=1", "--no-tags", "--single-branch", "--template=", *branch, "--", url, str(destination)
        )
    return git("-C", str(destination), "rev-parse", "HEAD")


def _git(arguments: list[str], watched: Path, time_limit_s: float) -> str:
    """Run git and return what it says; the folder `watched` may not grow beyond the bound meanwhile. Raises PullFailed."""
    program = shutil.which("git")
    if program is None:
        raise PullFailed("git is not on this machine: install it (apt-get install git), or pull from a folder")
    deadline = time.monotonic() + time_limit_s
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            [program, *(word for setting in _SETTINGS for word in ("-c", setting)), *arguments],
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_EVERY_S)
                    break
                if time.monotonic() > deadline:
                    raise PullFailed(f"git took longer than it may ({time_limit_s:.1f} s)")
                if watched.exists() and tree_size_bytes(watched) > MOST_BYTES:
                    raise PullFailed(f"the repository is larger than {MOST_BYTES >> 20} MiB")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        said = output.read(1 << 16).decode(errors="replace").strip()
        if process.returncode:
            lines = [line for line in said.splitlines() if line.strip()]
            fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
            raise PullFailed(f"git: {(fatal or lines or [f'it ended with code {process.returncode}'])[-1]}")
        return said


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment, with their keys and proxies, but without questions and large files."""
    without = {name: value for name, value in environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    return without | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_ASKPASS": "/bin/false", "LC_ALL": "C"}


def _folders(root: Path, source: Source, only: str) -> list[Path]:
    place = root / FOLDER
    if place.is_symlink() or not place.is_dir():
        raise PullFailed(f"{source.shown} has no folder {FOLDER}/, in which templates lie")
    found = sorted(path.parent for path in place.glob(f"*/{TEMPLATE_FILE}") if not path.parent.is_symlink())
    if odd := [path.name for path in found if not _NAME.fullmatch(path.name)]:
        raise PullFailed(f"{source.shown}: {odd[0]!r} is no name for a template")
    if not found:
        raise PullFailed(f"{source.shown} has no templates: there is no {FOLDER}/NAME/{TEMPLATE_FILE}")
    if only:
        chosen = [path for path in found if path.name == only]
        if not chosen:
            raise PullFailed(f"{source.shown} has no template {only}; it has {', '.join(path.name for path in found)}")
        return chosen
    return found


def _check(folder: Path) -> None:
    """Raise PullFailed for a template that is too large, or holds what leads out of it."""
    inside, files, size = folder.resolve(), 0, 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in folders + names:
            path = Path(parent, name)
            status = path.lstat()
            shown = f"template {folder.name}: {path.relative_to(folder)}"
            files, size = files + 1, size + status.st_size
            if stat.S_ISLNK(status.st_mode):
                if path.readlink().is_absolute() or not path.resolve().is_relative_to(inside):
                    raise PullFailed(f"{shown} is a link out of the template")
            elif not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise PullFailed(f"{shown} is neither a file nor a folder nor a link")
    if files > MOST_FILES:
        raise PullFailed(f"template {folder.name} has more than {MOST_FILES} files")
    if size > MOST_TEMPLATE_BYTES:
        raise PullFailed(f"template {folder.name} is larger than {MOST_TEMPLATE_BYTES >> 20} MiB")


def _place(folder: Path, project: Path, name: str, meta: Meta) -> None:
    """Put the template in its place in one step: what is there at any time is whole."""
    project.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=project) as staging:
        fresh = Path(staging) / "new"
        shutil.copytree(folder, fresh, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        (fresh / META_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n")
        if (project / name).exists():
            (project / name).rename(Path(staging) / "old")
        fresh.rename(project / name)
