from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from builder.templates import TEMPLATES_FOLDER, Templates
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

LANGUAGES = [template.language for template in Templates().list() if template.runs_here]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_context_holds_all_that_its_dockerfile_copies(faas: Faas, project: Path, language: str) -> None:
    assert faas("new", "hello", "--lang", language).code == 0
    done = faas("up", "--shrinkwrap")
    assert (done.code, done.out) == (0, "Wrote build/hello/\n")
    context = project / "build" / "hello"
    for file in (project / "hello").iterdir():
        assert (context / "function" / file.name).read_bytes() == file.read_bytes()
    lines = (context / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY")]
    assert copies
    for sources in copies:
        assert any((context / source).exists() for source in sources), f"{sources} may all be missing"
        assert all("*" in source or (context / source).exists() for source in sources)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_image_serves_by_the_command_of_a_bundle(language: str) -> None:
    """With the placeholders filled as the Dockerfile lays things out."""
    said = yaml.safe_load((TEMPLATES_FOLDER / language / "template.yml").read_text())
    names = {"python": "python", "node": "node", "runtime": "/opt/pinnace", "dependencies": "/opt/dependencies"}
    wanted = [word.format(**names) for word in said["command"]]
    lines = (TEMPLATES_FOLDER / language / "Dockerfile").read_text().splitlines()
    (command,) = [yaml.safe_load(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]
    assert command == wanted
    environment = dict(line.removeprefix("ENV ").split("=", 1) for line in lines if line.startswith("ENV "))
    for name, value in (said.get("env") or {}).items():
        assert environment[name].strip('"') == value.format(**names)


def test_a_second_time_leaves_nothing_of_the_first(faas: Faas, project: Path) -> None:
    faas("new", "hello", "--lang", "python3")
    (project / "hello" / "old.py").touch()
    faas("up", "--shrinkwrap")
    (project / "hello" / "old.py").unlink()
    (project / "hello" / "__pycache__").mkdir()
    faas("up", "--shrinkwrap")
    assert not (project / "build" / "hello" / "function" / "old.py").exists()
    assert not (project / "build" / "hello" / "function" / "__pycache__").exists()


def test_a_dockerfile_function_is_its_own_context(gateway: Gateway, faas: Faas, project: Path) -> None:
    (project / "own").mkdir()
    (project / "own" / "Dockerfile").write_text("FROM scratch\n")
    (project / "own" / "main.go").touch()
    (project / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  own: {lang: dockerfile, handler: ./own, image: 'own:1'}\n"
    )
    assert faas("up", "--shrinkwrap").code == 0
    assert {path.name for path in (project / "build" / "own").iterdir()} == {"Dockerfile", "main.go"}
    (project / "own" / "Dockerfile").unlink()
    done = faas("up", "--shrinkwrap")
    assert done.code == 2
    assert "own: there is no own/Dockerfile, which lang: dockerfile builds" in done.err
    assert gateway.asked == []


def test_a_template_of_the_project_goes_along(faas: Faas, project: Path) -> None:
    template = project / "template" / "golang-http"
    (template / "function").mkdir(parents=True)
    (template / "template.yml").write_text("language: golang-http\nfprocess: ./handler\n")
    (template / "Dockerfile").write_text("FROM golang\n")
    (template / "main.go").write_text("package main\n")
    (template / "function" / "handler.go").write_text("package function\n")
    faas("new", "hello", "--lang", "golang-http")
    assert faas("up", "--shrinkwrap").code == 0
    context = project / "build" / "hello"
    assert {path.name for path in context.iterdir()} == {"Dockerfile", "main.go", "template.yml", "function"}
