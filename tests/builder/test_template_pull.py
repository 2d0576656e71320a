"""Templates from git repositories and folders; the repositories are made on the spot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builder import template_pull
from builder.template_pull import PullFailed, parse_source, pull, read_meta
from builder.templates import Templates, read_template

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not on this machine")


def put(root: Path, name: str, text: str = "fprocess: ./x\n", **files: str) -> Path:
    folder = root / "template" / name
    (folder / "function").mkdir(parents=True, exist_ok=True)
    (folder / "template.yml").write_text(f"language: {name}\n{text}")
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "function" / "handler.x").write_text("code")
    for file, content in files.items():
        (folder / file).write_text(content)
    return folder


def git(root: Path, *arguments: str) -> str:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1", **identity}
    done = subprocess.run(["git", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    put(root, "golang-http")
    put(root, "own", 'command: ["x"]\n')
    commit(root)
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project" / "template"


@needs_git
def test_all_templates_of_a_repository_at_its_newest_commit(repository: Path, project: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    pulled = pull(parse_source(f"file://{repository}"), project, now=lambda: 0.0)
    assert [t.language for t in pulled.templates] == ["golang-http", "own"]
    assert pulled.commit == head
    assert (project / "golang-http" / "function" / "handler.x").read_text() == "code"
    assert not list(project.rglob(".git"))
    said = json.loads((project / "own" / "meta.json").read_bytes())
    assert said == {"repository": f"file://{repository}", "sha": head, "written_at": "1970-01-01T00:00:00+00:00"}
    assert Templates(project=project).find("own").runs_here
    assert sorted(path.name for path in project.iterdir()) == ["golang-http", "own"]


@needs_git
def test_a_tag_and_a_commit_are_pinned_in_the_name(repository: Path, project: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "v1")
    put(repository, "own", 'command: ["newer"]\n')
    commit(repository)
    pulled = pull(parse_source(f"file://{repository}#v1"), project, only="own")
    assert ([t.language for t in pulled.templates], pulled.commit) == (["own@v1"], first)
    assert Templates(project=project).find("own").command == ("x",), "the only one of that name"
    for ref in (f"sha-{first}", first[:12]):
        pulled = pull(parse_source(f"file://{repository}#{ref}"), project, only="own")
        assert pulled.commit == first
        meta = read_meta(read_template(project / f"own@{ref}", built_in=False))
        assert meta is not None and (meta.sha, meta.ref_name) == (first, ref)
    with pytest.raises(PullFailed, match=r"has no commit|git: "):
        pull(parse_source(f"file://{repository}#sha-{'0' * 40}"), project)
    with pytest.raises(PullFailed, match=r"git: Remote branch v9 not found"):
        pull(parse_source(f"file://{repository}#v9"), project)


@needs_git
def test_templates_that_are_there_are_replaced_or_kept(repository: Path, project: Path) -> None:
    pull(parse_source(str(repository)), project)
    (project / "own" / "mine").touch()
    kept = pull(parse_source(str(repository)), project, overwrite=False)
    assert (kept.templates, kept.kept) == ((), ("golang-http", "own"))
    assert (project / "own" / "mine").exists()
    pull(parse_source(str(repository)), project, only="own")
    assert not (project / "own" / "mine").exists()


@needs_git
def test_a_checkout_says_its_commit_only_when_it_is_that(repository: Path, project: Path) -> None:
    assert pull(parse_source(str(repository)), project).commit == git(repository, "rev-parse", "HEAD")
    put(repository, "own", 'command: ["changed"]\n')
    pulled = pull(parse_source(str(repository)), project)
    assert (pulled.commit, pulled.templates[1].command) == ("", ("changed",))


def test_a_plain_folder(tmp_path: Path, project: Path) -> None:
    put(tmp_path / "folder", "own", 'command: ["x"]\n')
    assert pull(parse_source(str(tmp_path / "folder")), project).commit == ""
    with pytest.raises(PullFailed, match="is a plain folder, which has no v1"):
        pull(parse_source(f"{tmp_path / 'folder'}#v1"), project)


REFUSED = [
    ("", "is no source of templates"),
    ("--upload-pack=touch /tmp/x", "is no source of templates"),
    ("https://h/x y", "is no source of templates"),
    ("ext::sh -c x", "is no source of templates"),
    ("ext://x", "only https://, http://"),
    ("https://h/x#--output=x", "is no branch, tag or commit"),
    ("https://h/x#a..b", "is no branch, tag or commit"),
    ("no/such/folder", "there is no folder no/such/folder"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_no_source_is_refused(text: str, message: str) -> None:
    with pytest.raises(PullFailed, match=message):
        parse_source(text)


def test_addresses_of_repositories(tmp_path: Path) -> None:
    assert parse_source("git@host:owner/name.git#main").ref == "main"
    assert not parse_source("git@host:owner/name.git").is_folder
    assert parse_source(str(tmp_path)).is_folder


def test_a_login_in_an_address_is_neither_shown_nor_written(tmp_path: Path) -> None:
    source = parse_source("https://user:t0ken@127.0.0.1:1/owner/name")
    assert source.shown == "https://127.0.0.1:1/owner/name"
    with pytest.raises(PullFailed) as caught:
        pull(source, tmp_path)
    assert "t0ken" not in str(caught.value)


@needs_git
def test_a_login_is_not_in_the_file_that_says_where_a_template_came_from(
    repository: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repository}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://user:t0ken@example.com/owner/name")
    pull(parse_source("https://user:t0ken@example.com/owner/name"), project)
    meta = read_meta(read_template(project / "own", built_in=False))
    assert meta is not None
    assert meta.repository == "https://example.com/owner/name"


@needs_git
def test_a_program_that_a_checkout_names_does_not_run(repository: Path, project: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))
    pull(parse_source(str(repository)), project)
    assert not (tmp_path / "ran").exists()


def hostile(root: Path, what: str) -> Path:
    folder = put(root, "own")
    if what == "link out":
        (folder / "function" / "x").symlink_to("../../../../secret")
    elif what == "absolute link":
        (folder / "function" / "x").symlink_to("/etc/passwd")
    elif what == "folder link":
        (folder / "function" / "x").symlink_to("../../..", target_is_directory=True)
    elif what == "pipe":
        os.mkfifo(folder / "pipe")
    elif what == "name":
        folder.rename(folder.with_name("-rf"))
    elif what == "template is a link":
        (root / "elsewhere").mkdir()
        shutil.move(str(folder), root / "elsewhere" / "own")
        folder.symlink_to(root / "elsewhere" / "own")
    elif what == "all is a link":
        (root / "template").rename(root / "other")
        (root / "template").symlink_to("other")
    elif what == "many files":
        for n in range(20):
            (folder / f"{n}").touch()
    elif what == "large":
        with (folder / "large").open("wb") as file:
            file.truncate(template_pull.MOST_TEMPLATE_BYTES + 1)
    return root


HOSTILE = [
    ("link out", "template own: function/x is a link out of the template"),
    ("absolute link", "is a link out of the template"),
    ("folder link", "is a link out of the template"),
    ("pipe", "template own: pipe is neither a file"),
    ("name", "'-rf' is no name for a template"),
    ("template is a link", "has no templates"),
    ("all is a link", "has no folder template/"),
    ("many files", "has more than 10 files"),
    ("large", "is larger than 50 MiB"),
    ("nothing", "has no template other; it has own"),
]


@pytest.mark.parametrize(("what", "message"), HOSTILE)
def test_what_is_not_acceptable_leaves_nothing(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    monkeypatch.setattr(template_pull, "MOST_FILES", 10)
    root = hostile(tmp_path / "hostile", what)
    with pytest.raises(PullFailed, match=message):
        pull(parse_source(str(root)), project, only="other" if what == "nothing" else "")
    assert not project.exists()


@needs_git
def test_a_repository_that_is_too_large_is_given_up(
    repository: Path, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A git of the test's that writes for ever: only the bound ends it."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor last; do :; done\nmkdir -p "$last"\nhead -c 3000000 /dev/zero > "$last/pack"\nsleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(template_pull, "MOST_BYTES", 1 << 20)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        with pytest.raises(PullFailed, match="the repository is larger than 1 MiB"):
            pull(parse_source(f"file://{repository}"), project)
        program.write_text("#!/bin/sh\nsleep 60\n")
        with pytest.raises(PullFailed, match=r"git took longer than it may \(0\.2 s\)"):
            pull(parse_source(f"file://{repository}"), project, time_limit_s=0.2)
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(PullFailed, match="git is not on this machine: install it"):
            pull(parse_source(f"file://{repository}"), project)
    assert not project.exists()


@needs_git
def test_hooks_of_the_repository_do_not_run(
    repository: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (hooks / "post-checkout").chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n\thooksPath = {hooks}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    pull(parse_source(f"file://{repository}"), project)
    assert not (tmp_path / "ran").exists()
