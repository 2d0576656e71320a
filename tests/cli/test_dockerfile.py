"""Functions with a Dockerfile, on gateways that run images and on those that run processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway


@pytest.fixture
def own(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A function with a Dockerfile, and a buildah of the test's that writes down what it is asked for."""
    (project / "own").mkdir()
    (project / "own" / "Dockerfile").write_text("FROM scratch\n")
    (project / "key").write_text("secret")
    (project / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  own: {lang: dockerfile, handler: ./own, image: 'me/own:1', "
        "build_args: {A: '1'}, build_secrets: {token: ./key}}\n"
    )
    tools = project / "tools"
    tools.mkdir()
    script = f'for last; do :; done\necho "$@" >> {project}/asked\n[ "$1" = push ] || ls "$last"\n'
    (tools / "buildah").write_text(f"#!/bin/sh\n{script}")
    (tools / "buildah").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("BUILDKIT_HOST", raising=False)
    return project


def asked(project: Path) -> list[str]:
    path = project / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_up_builds_pushes_and_deploys_where_images_run(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    done = faas("up", "--verbose")
    assert done.code == 0, done.err
    build, push = asked(own)
    assert build.startswith("build --tag me/own:1 --build-arg A=1 --secret id=token,src=")
    assert push == "push me/own:1"
    assert "own | Dockerfile" in done.err, "the function's folder is the context"
    assert gateway.functions[("openfaas-fn", "own")]["image"] == "me/own:1"


def test_a_new_one_is_an_image_from_the_start(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    done = faas("new", "fresh", "--lang", "dockerfile")
    assert done.out.endswith("Build and deploy it: faas up\n"), done.err
    assert faas("up", "--filter", "fresh").code == 0
    assert gateway.functions[("openfaas-fn", "fresh")]["image"] == "fresh:latest"


def test_the_push_can_be_left_out(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    assert faas("up", "--skip-push").code == 0
    assert [line.split()[0] for line in asked(own)] == ["build"]


def test_a_gateway_that_runs_processes_says_what_to_do(gateway: Gateway, faas: Faas, own: Path) -> None:
    done = faas("up")
    assert done.code == 2
    assert "lang: dockerfile makes a container image, and this gateway runs functions as processes" in done.err
    assert "lang: binary" in done.err
    assert asked(own) == []


def test_deploy_takes_the_image_as_it_is(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    assert faas("deploy").code == 0
    assert asked(own) == []


def test_a_build_that_fails_stops_the_deploy(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    (own / "tools" / "buildah").write_text("#!/bin/sh\necho STEP 1\necho 'Error: no such file'\nexit 1\n")
    done = faas("up")
    assert done.code == 1
    assert done.err.endswith("own | STEP 1\nError: own: not built: buildah build: Error: no such file\n")
    assert gateway.functions == {}


def test_without_a_container_builder_it_is_said_what_to_install(
    gateway: Gateway, faas: Faas, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.stock = True
    monkeypatch.setenv("PATH", str(own))
    done = faas("up")
    assert done.code == 1
    assert "a Dockerfile is built by a container builder, and none is on this machine: install buildah" in done.err


def test_a_build_secret_that_is_not_there_is_named(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    (own / "key").unlink()
    done = faas("up")
    assert done.code == 2
    assert "own: build_secrets: there is no file key" in done.err


def test_the_command_of_a_templates_image_is_sent(gateway: Gateway, faas: Faas, own: Path) -> None:
    gateway.stock = True
    template = own / "template" / "golang-http"
    (template / "function").mkdir(parents=True)
    (template / "template.yml").write_text("language: golang-http\nfprocess: ./handler\n")
    (template / "Dockerfile").write_text("FROM golang\n")
    (own / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  own: {lang: golang-http, handler: ./own, image: 'me/own:1'}\n"
    )
    assert faas("up").code == 0
    assert gateway.functions[("openfaas-fn", "own")]["envProcess"] == "./handler"
    assert asked(own)[0].startswith("build --tag me/own:1 ")


def test_build_push_and_publish_use_the_container_builder(faas: Faas, own: Path) -> None:
    done = faas("build", "--no-cache", "--build-arg", "B=2")
    assert done.code == 0, done.err
    assert done.out.endswith("Image: me/own:1, kept by the container builder\n")
    assert faas("push").out == "Pushed me/own:1, which the container builder had\n"
    assert faas("publish").code == 0
    first, *rest = asked(own)
    assert (
        first.startswith("build --tag me/own:1 --build-arg A=1 --build-arg B=2 --secret id=token,src=")
        and "--no-cache" in first
    )
    assert [line.split()[0] for line in rest] == ["push", "build", "push"]
    assert faas("publish", "--extra-tag", "2").code == 2


def test_up_builds_other_functions_without_a_container_builder(
    gateway: Gateway, faas: Faas, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their base image is asked for: nothing but our own builder has a say in it."""
    gateway.stock = True
    monkeypatch.setenv("PINNACE_BASE_IMAGE", "127.0.0.1:1/no/base:1")
    (own / "own" / "handler.py").write_text("def handle(event, context):\n    return ''\n")
    (own / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  own: {lang: python3-http, handler: ./own, image: 'me/own:1'}\n"
    )
    done = faas("up")
    assert done.code == 1
    assert "127.0.0.1:1" in done.err
    assert asked(own) == []
    assert gateway.functions == {}
