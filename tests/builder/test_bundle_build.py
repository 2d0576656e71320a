from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.bundle_build import BundleBuild
from builder.compiling import BrokenCode
from builder.context import InvalidContext
from builder.images import InvalidImageName
from builder.layers import folder_digest
from builder.requirements import InvalidRequirements
from builder.store import BundleQuotaExceeded, BundleStore
from builder.templates import TEMPLATES_FOLDER, InvalidTemplate, Templates, UnknownTemplate
from orchestration.bundle import Bundle, LayerKind, UnknownBundle
from tests.builder.tars import tar_of

MakeFunction = Callable[..., Path]
MakeTar = Callable[..., Path]


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.image = ""

    def names(self, image: str) -> None:
        self.image = image

    def log(self, line: str) -> None:
        self.lines.append(line)


def build(store: BundleStore, tar: Path | io.BytesIO, notes: Notes | None = None, templates: Templates | None = None) -> Bundle:
    task = BundleBuild(store, templates or Templates(), notes or Notes())
    if isinstance(tar, io.BytesIO):
        return task.run(tar)
    with tar.open("rb") as file:
        return task.run(file)


def folder_of(store: BundleStore, bundle: Bundle, kind: LayerKind) -> Path:
    layer = bundle.layer(kind)
    assert layer is not None
    return store.folder(layer)


def test_a_built_bundle_has_three_layers_and_is_published(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    notes = Notes()
    bundle = build(store, context_of(make_function(), "team/hello"), notes)
    assert notes.image == "team/hello:latest"
    assert [layer.kind for layer in bundle.layers] == [LayerKind.RUNTIME, LayerKind.DEPENDENCIES, LayerKind.CODE]
    assert store.resolve("team/hello") == bundle
    assert bundle.template == "python3-http"
    assert bundle.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (folder_of(store, bundle, LayerKind.CODE) / "function" / "handler.py").is_file()


def test_a_built_bundle_runs_by_its_command(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    bundle = build(store, context_of(make_function({"handler.py": "raise ValueError('loaded ' + __file__)\n"})))
    places = {
        "{python}": str(folder_of(store, bundle, LayerKind.DEPENDENCIES) / "bin/python"),
        "{runtime}": str(folder_of(store, bundle, LayerKind.RUNTIME)),
    }
    command = list(bundle.command)
    for placeholder, place in places.items():
        command = [word.replace(placeholder, place) for word in command]
    code = folder_of(store, bundle, LayerKind.CODE)
    ran = subprocess.run(command, cwd=code, env={"PORT": "0"}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert f"loaded {code}/function/handler.py" in ran.stderr + ran.stdout


def test_the_same_context_gives_the_same_digest_in_any_store(
    tmp_path: Path, make_function: MakeFunction, context_of: MakeTar
) -> None:
    tar = context_of(make_function())
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.add(build(BundleStore(tmp_path / name), tar).digest)
    assert len(digests) == 1


def test_changed_code_changes_only_the_code_layer(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    first = build(store, context_of(make_function({"handler.py": "x = 1"})))
    second = build(store, context_of(make_function({"handler.py": "x = 2"})))
    assert first.digest != second.digest
    assert first.layers[:2] == second.layers[:2]
    assert store.resolve("hello") == second


def test_the_runtime_layer_is_a_compiled_copy(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    runtime = folder_of(store, build(store, context_of(make_function())), LayerKind.RUNTIME)
    assert folder_digest(runtime) == folder_digest(TEMPLATES_FOLDER / "_python")
    assert list(runtime.rglob("__pycache__/*.pyc"))


def test_an_openfaas_context_is_built_with_our_runtime(store: BundleStore) -> None:
    tar = tar_of(
        ("context/Dockerfile", "FROM python"),
        ("context/index.py", "from flask import Flask"),
        ("context/requirements.txt", "flask\nwaitress\n"),
        ("context/template.yml", "language: python3-http-debian\nfprocess: python index.py\n"),
        ("context/function/__init__.py", ""),
        ("context/function/handler.py", "def handle(event, context):\n    return 'x'\n"),
        ("context/function/requirements.txt", "# none\n"),
        ("context/function/__pycache__/handler.cpython-311.pyc", "stale"),
        config={"image": "reg/echo", "buildArgs": {"ADDITIONAL_PACKAGE": "libpq-dev", "TEST_ENABLED": "false"}},
    )
    notes = Notes()
    bundle = build(store, tar, notes)
    assert bundle.template == "python3-http"
    code = folder_of(store, bundle, LayerKind.CODE)
    assert [path.name for path in code.iterdir()] == ["function"]
    assert not any(path.read_bytes() == b"stale" for path in code.rglob("*.pyc"))
    assert "warning: system packages are not installed on this machine by a build: libpq-dev" in notes.lines
    assert "warning: build argument TEST_ENABLED has no effect here" in notes.lines


def test_another_handler_folder_becomes_the_function(store: BundleStore) -> None:
    tar = tar_of(
        ("context/template.yml", "language: python3-http\nhandler_folder: src/app\n"), ("context/src/app/handler.py", "x = 1")
    )
    assert (folder_of(store, build(store, tar), LayerKind.CODE) / "function" / "handler.py").read_text() == "x = 1"


TEMPLATE = ("context/template.yml", "language: python3-http\n")
HANDLER = ("context/function/handler.py", "x = 1\n")
BROKEN: list[tuple[str, io.BytesIO, type[Exception], str]] = [
    (
        "syntax error",
        tar_of(TEMPLATE, ("context/function/handler.py", "x = 1\n\ndef handle(:\n")),
        BrokenCode,
        r"^function/handler.py line 3: SyntaxError: ",
    ),
    (
        "syntax error in another module",
        tar_of(TEMPLATE, HANDLER, ("context/function/other.py", "x = (")),
        BrokenCode,
        r"^function/other.py line 1: SyntaxError: ",
    ),
    ("unknown language", tar_of(("context/template.yml", "language: go"), HANDLER), UnknownTemplate, "there are bash, "),
    (
        "dockerfile",
        tar_of(("context/template.yml", "language: dockerfile"), HANDLER),
        UnknownTemplate,
        "makes a container image",
    ),
    ("no language", tar_of(("context/template.yml", "fprocess: x"), HANDLER), UnknownTemplate, "no template for language ''"),
    ("no template", tar_of(HANDLER), InvalidContext, "has no template.yml, which names the language$"),
    ("only a Dockerfile", tar_of(("context/Dockerfile", "FROM x")), InvalidContext, "lang: dockerfile cannot be built here"),
    ("broken template", tar_of(("context/template.yml", "a: ["), HANDLER), InvalidTemplate, "template.yml is not YAML"),
    ("no function", tar_of(TEMPLATE), InvalidContext, "has no folder 'function'"),
    (
        "function elsewhere",
        tar_of(("context/template.yml", "language: python3\nhandler_folder: ../x"), HANDLER),
        InvalidContext,
        "has no folder '../x'",
    ),
    ("image name", tar_of(TEMPLATE, HANDLER, config={"image": "No Name"}), InvalidImageName, "'No Name' is not an image name"),
    (
        "requirements",
        tar_of(TEMPLATE, HANDLER, ("context/function/requirements.txt", "-e .")),
        InvalidRequirements,
        "requirements.txt line 1: editable",
    ),
]


@pytest.mark.parametrize(("tar", "error", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_cannot_be_built_leaves_nothing_behind(
    store: BundleStore, tar: io.BytesIO, error: type[Exception], message: str
) -> None:
    tar.seek(0)
    with pytest.raises(error, match=message):
        build(store, tar)
    assert store.images() == {}
    assert list((store.root / "incoming").iterdir()) == []


def test_a_failed_build_leaves_the_last_good_one_in_place(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    good = build(store, context_of(make_function({"handler.py": "x = 1"})))
    with pytest.raises(BrokenCode):
        build(store, context_of(make_function({"handler.py": "x ="})))
    assert store.resolve("hello") == good


def test_code_above_the_quota_is_refused(tmp_path: Path, make_function: MakeFunction, context_of: MakeTar) -> None:
    small = BundleStore(tmp_path, quota_bytes=1_000_000)
    with pytest.raises(BundleQuotaExceeded, match="remove functions that are not needed"):
        build(small, context_of(make_function({"handler.py": "", "data.bin": "x" * 1_000_000})))
    assert small.images() == {}


CHANGING = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.utime", "os.symlink")


def crash_at(step: int, store: BundleStore, tar: Path, templates: Templates) -> bool:
    """Build in a child that kills itself before its change number `step` to the disk. Returns whether it got that far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if event in CHANGING or writes:
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            build(store, tar, templates=templates)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"step {step} failed"
    return status == signal.SIGKILL


@pytest.fixture
def small(tmp_path: Path) -> Templates:
    """A template whose runtime is one short file, so that a build has few steps."""
    folder = tmp_path / "templates"
    (folder / "_python").mkdir(parents=True)
    (folder / "_python" / "serve.py").write_text("x = 1\n")
    (folder / "python3-http").mkdir()
    (folder / "python3-http" / "template.yml").write_text(
        "language: python3-http\ncommand: ['{python}', '{runtime}/serve.py']\n"
    )
    return Templates(folder)


def assert_whole(store: BundleStore) -> None:
    for image, digest in store.images().items():
        bundle = store.resolve(image)
        assert bundle.digest == digest
        for layer in bundle.layers:
            assert store.layers.find(layer.digest) == layer
            if layer.kind is not LayerKind.DEPENDENCIES:
                assert folder_digest(store.folder(layer)) == layer.digest
            else:
                assert (store.folder(layer) / "pyvenv.cfg").is_file()


def test_a_build_killed_at_any_step_leaves_a_whole_store(
    tmp_path: Path, make_function: MakeFunction, context_of: MakeTar, small: Templates
) -> None:
    tar = context_of(make_function())
    expected = ""
    for step in range(1, 1000):
        root = tmp_path / str(step)
        root.mkdir()
        crashed = crash_at(step, BundleStore(root), tar, small)
        store = BundleStore(root)
        assert_whole(store)
        store.sweep()
        assert_whole(store)
        assert list((root / "incoming").iterdir()) == []
        assert all(path.with_suffix(".json").exists() for path in (root / "layers").iterdir() if path.is_dir())
        digest = build(store, tar, templates=small).digest
        expected = expected or digest
        assert digest == expected
        if not crashed:
            break
    assert step > 30


def test_an_image_that_was_there_survives_a_crash_of_its_next_build(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar, small: Templates
) -> None:
    digests = {build(store, context_of(make_function({"handler.py": "x = 0"})), templates=small).digest}
    for step in range(1, 1000):
        tar = context_of(make_function({"handler.py": f"x = {step}"}))
        crashed = crash_at(step, store, tar, small)
        try:
            digests.add(store.resolve("hello").digest)
        except UnknownBundle:
            pytest.fail(f"the image was lost at step {step}")
        assert_whole(store)
        if not crashed:
            break
    assert len(digests) >= 2


def test_each_kind_of_template_gets_the_layers_it_needs(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    script = build(store, context_of(make_function({"handler.sh": "cat\n"}, "script"), language="bash"))
    program = build(store, context_of(make_function({"handler": "#!/bin/sh\n"}, "program"), language="binary"))
    assert [layer.kind for layer in script.layers] == [LayerKind.RUNTIME, LayerKind.DEPENDENCIES, LayerKind.CODE]
    assert [layer.kind for layer in program.layers] == [LayerKind.CODE]
    assert (script.listens, program.listens, program.python) == ("socket", "port", None)
    assert script.env == {"fprocess": "bash handler.sh"}


OWN = 'language: own\ncommand: ["{python}", "{code}/index.py"]\ndependencies: python\nhandler_folder: src/app\n'


def test_a_template_with_a_command_is_taken_from_the_context(store: BundleStore) -> None:
    tar = tar_of(
        ("context/template.yml", OWN),
        ("context/Dockerfile", "FROM python"),
        ("context/index.py", "import function.handler"),
        ("context/src/app/handler.py", "x = 1"),
    )
    bundle = build(store, tar)
    assert (bundle.template, bundle.command) == ("own", ("{python}", "{code}/index.py"))
    assert [layer.kind for layer in bundle.layers] == [LayerKind.DEPENDENCIES, LayerKind.CODE]
    code = folder_of(store, bundle, LayerKind.CODE)
    assert {path.name for path in code.iterdir() if path.name != "__pycache__"} == {"index.py", "function", "src"}
    assert (code / "function" / "handler.py").is_file()


def test_a_template_for_another_python_is_warned_about(store: BundleStore) -> None:
    notes = Notes()
    build(store, tar_of(("context/template.yml", OWN + 'python: "2.7"\n'), ("context/src/app/handler.py", "")), notes)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"warning: template own is made for Python 2.7, and functions here run with this machine's {here}" in notes.lines
