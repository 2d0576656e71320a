"""`faas template`, with templates from a folder beside the project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a template that runs here, one that makes images, and one whose language is served by a built-in one."""
    root = tmp_path / "source"
    for name, text in (("own", "command: [x]\ndescription: of ours\n"), ("golang-http", ""), ("node22", "")):
        folder = root / "template" / name
        (folder / "function").mkdir(parents=True)
        (folder / "template.yml").write_text(f"language: {name}\n{text}")
        (folder / "Dockerfile").write_text("FROM scratch\n")
        (folder / "function" / "handler.x").write_text("code")
    return root


def test_pulled_templates_are_listed_and_new_functions_made_of_them(faas: Faas, project: Path, source: Path) -> None:
    done = faas("template", "pull", str(source))
    assert (done.code, done.out) == (0, f"Pulled golang-http, node22, own from {source}.\n")
    assert "Note: node22: functions are built with the built-in template of that language." in done.err
    assert "Note: golang-http has a Dockerfile and so make container images, which need a cluster" in done.err
    rows = {row["language"]: row for row in json.loads(faas("template", "list", "--json").out)}
    assert (rows["own"]["runs"], rows["own"]["from"]) == ("process", str(source))
    assert (rows["golang-http"]["runs"], rows["node"]["from"]) == ("image", "built in")
    assert "golang-http" in faas("new", "--list").out
    assert faas("new", "made", "--lang", "golang-http").code == 0
    assert (project / "made" / "handler.x").read_text() == "code"


def test_a_function_of_an_image_template_is_not_sent(gateway: Gateway, faas: Faas, project: Path, source: Path) -> None:
    faas("template", "pull", str(source))
    faas("new", "made", "--lang", "golang-http")
    done = faas("deploy")
    assert done.code == 2
    assert done.err.startswith("Error: made: template golang-http has only a Dockerfile, so it makes container images")


def test_what_is_there_can_be_kept(faas: Faas, project: Path, source: Path) -> None:
    faas("template", "pull", str(source))
    assert (
        faas("template", "pull", str(source), "--no-overwrite").out
        == "Kept golang-http, node22, own, which is there already.\n"
    )


def test_sources_that_cannot_be(faas: Faas, project: Path, tmp_path: Path) -> None:
    assert faas("template", "pull").code == 2
    assert faas("template", "pull", "no-such-folder").code == 2
    (tmp_path / "empty").mkdir()
    done = faas("template", "pull", str(tmp_path / "empty"))
    assert (done.code, done.err) == (1, f"Error: {tmp_path / 'empty'} has no folder template/, in which templates lie\n")


def test_the_store(faas: Faas, project: Path, tmp_path: Path, source: Path) -> None:
    assert "golang-middleware" in faas("template", "store", "list").out
    assert "https://" in faas("template", "store", "describe", "golang-middleware").out
    assert faas("template", "store", "describe", "golang-midleware").code == 2
    store = tmp_path / "store.json"
    store.write_text(json.dumps([{"template": "own", "repo": str(source), "source": "us"}]))
    assert json.loads(faas("template", "store", "list", "--url", str(store), "--json").out)[0]["source"] == "us"
    assert faas("template", "store", "pull", "own", "--url", str(store)).out == f"Pulled own from {source}.\n"
    assert (project / "template" / "own" / "meta.json").is_file()
    assert not (project / "template" / "golang-http").exists()
    assert faas("template", "store", "list", "--url", str(tmp_path / "none")).code == 1


def test_the_templates_of_a_stack_file(faas: Faas, project: Path, source: Path) -> None:
    stack = project / "stack.yaml"
    assert faas("template", "pull", "stack").code == 2
    stack.write_text("provider: {name: openfaas}\n")
    assert "lists no templates" in faas("template", "pull", "stack").err
    stack.write_text(f"provider: {{name: openfaas}}\nconfiguration:\n  templates:\n    - {{name: own, source: {source}}}\n")
    assert faas("template", "pull", "stack").out == f"Pulled own from {source}.\n"
    stack.write_text("provider: {name: openfaas}\nconfiguration: {templates: [own]}\n")
    assert "configuration.templates must be a list of mappings" in faas("template", "pull", "stack").err
