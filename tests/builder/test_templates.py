from __future__ import annotations

from pathlib import Path

import pytest

import builder
from builder.templates import (
    TEMPLATES_FOLDER,
    FolderExists,
    ImageTemplate,
    InvalidTemplate,
    Template,
    Templates,
    UnknownTemplate,
    read_template,
)
from orchestration.bundle import Listens

LANGUAGES = ["bash", "binary", "node", "python3", "python3-asgi", "python3-http"]
OURS = 'command: ["{python}", "index.py"]\n'


def runtime_of(template: Template) -> str:
    return str(Templates().runtime(template) or "")


def put(folder: Path, name: str, text: str = "", **files: str) -> Path:
    (folder / name / "function").mkdir(parents=True)
    (folder / name / "template.yml").write_text(f"language: {name}\n{text}")
    for file, content in files.items():
        (folder / name / file).write_text(content)
    return folder


def test_templates_lie_beside_the_package() -> None:
    assert Path(builder.__file__).parent.parent / "runtime-templates" == TEMPLATES_FOLDER


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_built_in_template_runs_and_has_a_handler(language: str) -> None:
    template = Templates().find(language)
    assert template.runs_here and template.built_in
    assert [file for file in template.handler if (template.skeleton / file).is_file()]
    assert template.description
    assert template.welcome_message
    for word in template.command:
        if word.startswith("{runtime}"):
            assert Path(word.replace("{runtime}", runtime_of(template))).is_file()


def test_all_are_listed() -> None:
    assert [template.language for template in Templates().list()] == sorted([*LANGUAGES, "dockerfile"])


def test_only_a_program_of_ones_own_listens_on_a_port() -> None:
    assert [template.language for template in Templates().list() if template.listens is Listens.PORT] == ["binary"]


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("python3-http", "python3-http"),
        ("python3-http-debian", "python3-http"),
        ("python3-debian", "python3"),
        ("python3-http@1.2.0", "python3-http"),
        (" python3 ", "python3"),
        ("node20", "node"),
        ("bash-streaming", "bash"),
    ],
)
def test_names_of_openfaas_templates_are_served_by_ours(name: str, language: str) -> None:
    assert Templates().find(name).language == language


@pytest.mark.parametrize("name", ["golang-http", "", "_python", "../builder", ".", "python3-http/function", "@sha"])
def test_an_unknown_language_lists_what_there_is(name: str) -> None:
    with pytest.raises(UnknownTemplate, match=r"no template for language .*; there are bash, binary, dockerfile, node, "):
        Templates().find(name)


def test_dockerfile_is_a_template_for_images_only(tmp_path: Path) -> None:
    assert not Templates().find("dockerfile").runs_here
    Templates().new("dockerfile", tmp_path / "own")
    assert (tmp_path / "own" / "Dockerfile").read_text().splitlines()[1].startswith("FROM ")
    with pytest.raises(ImageTemplate, match=r"makes a container image, and this gateway runs .* bash, binary, node, "):
        Templates().find_runnable("dockerfile")


def test_a_projects_template_comes_before_a_built_in_one(tmp_path: Path) -> None:
    templates = Templates(project=put(put(tmp_path, "node", OURS), "own", OURS))
    assert templates.find("node").folder == tmp_path / "node"
    assert templates.find("own@1.0").folder == tmp_path / "own"
    assert not templates.find("own").built_in
    assert templates.find("node20").built_in  # an alias is of ours, not of what a project calls so
    assert [template.language for template in templates.list()] == sorted([*LANGUAGES, "dockerfile", "own"])


def test_a_pinned_template_of_the_project(tmp_path: Path) -> None:
    templates = Templates(project=put(put(tmp_path, "own@v1", OURS), "own", OURS))
    assert templates.find("own@v1").folder == tmp_path / "own@v1"
    assert templates.find("own").folder == tmp_path / "own"


def test_one_with_only_a_dockerfile_makes_functions_but_not_bundles(tmp_path: Path) -> None:
    """OpenFaaS's own templates: where we serve the language, we do; where not, the message says what can be done."""
    put(put(tmp_path, "golang-http", Dockerfile="FROM scratch"), "python3-http", Dockerfile="FROM python")
    (tmp_path / "golang-http" / "function" / "handler.go").write_text("package function")
    templates = Templates(project=tmp_path)
    assert templates.find("python3-http").built_in
    assert not templates.find("golang-http").runs_here
    with pytest.raises(
        ImageTemplate, match=r"template golang-http has only a Dockerfile, .* deploy the image to a cluster .* lang: bin"
    ):
        templates.find_runnable("golang-http")
    templates.new("golang-http", tmp_path / "made")
    assert (tmp_path / "made" / "handler.go").is_file()


def test_a_new_function_starts_from_the_templates_handler(tmp_path: Path) -> None:
    template = Templates().new("python3-http", tmp_path / "hello")
    made = {path.name for path in (tmp_path / "hello").iterdir()}
    assert {"handler.py", "requirements.txt"} <= made
    assert "__pycache__" not in made
    assert (tmp_path / "hello/handler.py").read_text() == (template.folder / "function/handler.py").read_text()
    with pytest.raises(FolderExists, match="hello exists already"):
        Templates().new("python3-http", tmp_path / "hello")


def test_a_program_stays_one_that_can_be_run(tmp_path: Path) -> None:
    Templates().new("binary", tmp_path / "hello")
    assert (tmp_path / "hello/handler").stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("command: {a: b}", "Expected `array`, got `object`"),
        ("command: [a]\nenv: {A: [1]}", "Expected `str`, got `array`"),
        ("command: [a]\npython: 3.10", 'python: write the version in quotes: "3.1"'),
        ("command: [a]\ndependencies: cargo", "dependencies is 'cargo'; it may be python, node, or missing"),
        ("command: [a]\nlistens: everywhere", "Invalid enum value 'everywhere'"),
        ("command: [a]\nhandler_folder: ../x", "handler_folder '../x' leaves the template's folder"),
    ],
)
def test_a_broken_template_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "template.yml").write_text(text)
    with pytest.raises(InvalidTemplate, match=r"template\.yml") as caught:
        Templates(tmp_path).find("own")
    assert message in str(caught.value)


@pytest.mark.parametrize("runtime", ["_ruby", "../_python", "builder", "_python/pinnace_runtime"])
def test_a_runtime_is_one_of_ours(tmp_path: Path, runtime: str) -> None:
    template = read_template(put(tmp_path, "own", f"{OURS}runtime: {runtime}\n") / "own", built_in=False)
    with pytest.raises(InvalidTemplate, match=r"own: there is no runtime .*; there are _node, _python"):
        Templates().runtime(template)
