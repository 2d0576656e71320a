from __future__ import annotations

from pathlib import Path

import pytest

import builder
from builder.templates import TEMPLATES_FOLDER, FolderExists, InvalidTemplate, Templates, UnknownTemplate


def test_templates_lie_beside_the_package() -> None:
    assert Path(builder.__file__).parent.parent / "runtime-templates" == TEMPLATES_FOLDER
    assert Templates().runtime.is_dir()


def test_every_template_serves_with_our_runtime_and_has_a_handler() -> None:
    templates = Templates().list()
    assert [template.language for template in templates] == ["python3", "python3-asgi", "python3-http"]
    for template in templates:
        assert template.command[0] == "{python}"
        assert template.command[-1] == template.language
        entry = template.command[-2].replace("{runtime}", str(Templates().runtime))
        assert Path(entry).is_file()
        assert (template.folder / "function" / "handler.py").is_file()
        assert template.description
        assert template.welcome_message


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("python3-http", "python3-http"),
        ("python3-http-debian", "python3-http"),
        ("python3-debian", "python3"),
        ("python3-http@1.2.0", "python3-http"),
        (" python3 ", "python3"),
    ],
)
def test_names_of_openfaas_templates_are_served_by_ours(name: str, language: str) -> None:
    assert Templates().find(name).language == language


@pytest.mark.parametrize("name", ["golang-http", "", "_python", "../builder", ".", "python3-http/function", "@sha"])
def test_an_unknown_language_lists_what_there_is(name: str) -> None:
    with pytest.raises(UnknownTemplate, match=r"no template for language .*; there are python3, python3-asgi, python3-http"):
        Templates().find(name)


def test_dockerfile_is_no_language_here() -> None:
    with pytest.raises(UnknownTemplate, match="lang: dockerfile needs a container builder, which this gateway does not have"):
        Templates().find("dockerfile")


def test_a_new_function_starts_from_the_templates_handler(tmp_path: Path) -> None:
    template = Templates().new("python3-http", tmp_path / "hello")
    made = {path.name for path in (tmp_path / "hello").iterdir()}
    assert {"handler.py", "requirements.txt"} <= made
    assert "__pycache__" not in made
    assert (tmp_path / "hello/handler.py").read_text() == (template.folder / "function/handler.py").read_text()
    with pytest.raises(FolderExists, match="hello exists already"):
        Templates().new("python3-http", tmp_path / "hello")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("language: x", "Expected `array`, got `null`"),
        ("command: {a: b}", "Expected `array`, got `object`"),
        ("command: [a]\nenv: {A: [1]}", "Expected `str`, got `array`"),
    ],
)
def test_a_broken_template_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "template.yml").write_text(text)
    with pytest.raises(InvalidTemplate, match=r"template\.yml") as caught:
        Templates(tmp_path).find("own")
    assert message in str(caught.value)
