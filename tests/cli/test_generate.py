"""`faas generate`: what kubectl and GitOps get is what a deploy would make."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from cli.commands.build import chosen
from cli.deployment import request_of
from cli.image_flags import ImageFlags
from cli.main import faas
from cli.stack import StackFunction
from gateway.control.wire import FunctionDeployment, to_spec
from orchestration.kubernetes.record import domain_spec
from orchestration.kubernetes.resource import read

STACK = """
version: 1.0
provider: {name: openfaas}
functions:
  hello:
    lang: python3-http
    handler: ./hello
    image: registry.test/hello:1
    namespace: team
    environment: {MODE: fast, LEVEL: 3}
    secrets: [key]
    labels: {com.openfaas.scale.max: "5"}
    annotations: {com.pinnace.timeout: 30s}
    limits: {memory: 128Mi}
    readonly_root_filesystem: true
  other: {image: registry.test/other:2, skip_build: true}
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stack.yaml").write_text(STACK)
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "handler.py").write_text("def handle(event, context): ...\n")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(faas, ["generate", *words])


def test_each_function_is_a_document(stack: Path) -> None:
    hello, other = yaml.safe_load_all(run().stdout)
    assert hello["metadata"] == {"name": "hello", "namespace": "team"}
    assert hello["spec"]["image"] == "registry.test/hello:1"
    assert hello["spec"]["env"] == {"MODE": "fast", "LEVEL": "3"}
    assert hello["spec"]["readOnlyRootFilesystem"] is True
    assert other["metadata"] == {"name": "other", "namespace": "openfaas-fn"}
    assert "restartedAt" not in other["spec"], "a commit of it means the same tomorrow"


def test_it_says_what_a_deploy_says(stack: Path) -> None:
    (document,) = yaml.safe_load_all(run("hello").stdout)
    function = StackFunction(
        "hello",
        image="registry.test/hello:1",
        namespace="team",
        environment={"MODE": "fast", "LEVEL": "3"},
        secrets=("key",),
        labels={"com.openfaas.scale.max": "5"},
        annotations={"com.pinnace.timeout": "30s"},
        limits={"memory": "128Mi"},
        readonly_root_filesystem=True,
    )
    content = request_of(function, "registry.test/hello:1")
    assert domain_spec(read(document)) == to_spec(msgspec.convert(content, FunctionDeployment), "team")


@pytest.mark.parametrize("namespace", ["", "team"])
def test_the_image_is_the_one_that_publish_pushes_wherever_it_runs(stack: Path, namespace: str) -> None:
    (stack / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n"
        f"  hello: {{lang: python3-http, handler: ./hello{', namespace: team' if namespace else ''}}}\n"
    )
    (published,) = chosen("", ImageFlags.plain(verbose=False)).functions
    for words in ((), ("-n", "dev")):
        (document,) = yaml.safe_load_all(run(*words).stdout)
        assert document["spec"]["image"] == published.image == ("team/hello:latest" if namespace else "hello:latest")
        assert document["metadata"]["namespace"] == (words[-1] if words else namespace or "openfaas-fn")


def test_an_image_that_is_not_built_has_no_tag_of_the_code(stack: Path) -> None:
    (stack / "stack.yaml").write_text(
        STACK.replace("image: registry.test/hello:1", "image: registry.test/hello:1\n    skip_build: true")
    )
    (document,) = yaml.safe_load_all(run("hello", "--tag", "digest").stdout)
    assert document["spec"]["image"] == "registry.test/hello:1"


def test_one_is_chosen_renamed_and_moved(stack: Path) -> None:
    (document,) = yaml.safe_load_all(run("--filter", "oth*", "--namespace", "elsewhere").stdout)
    assert document["metadata"] == {"name": "other", "namespace": "elsewhere"}
    (document,) = yaml.safe_load_all(run("--image", "registry.test/x:1", "--name", "x").stdout)
    assert document["spec"]["image"] == "registry.test/x:1"


def test_a_tag_that_follows_from_the_code(stack: Path) -> None:
    (document,) = yaml.safe_load_all(run("hello", "--tag", "digest").stdout)
    assert document["spec"]["image"].removeprefix("registry.test/hello:") not in ("1", "latest")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('labels: {com.openfaas.scale.min: "many"}', "com.openfaas.scale.min"),
        ("limits: {memory: lots}", "lots"),
        ("annotations: {com.pinnace.timeout: soon}", "com.pinnace.timeout"),
    ],
)
def test_what_a_gateway_would_refuse_is_refused_here(stack: Path, written: str, told: str) -> None:
    text = STACK.replace(
        "other: {image: registry.test/other:2, skip_build: true}", f"other: {{image: x, skip_build: true, {written}}}"
    )
    (stack / "stack.yaml").write_text(text)
    done = run("other")
    assert done.exit_code != 0
    assert told in str(done.exception)


def test_an_image_that_a_cluster_would_look_for_elsewhere_is_noted(stack: Path) -> None:
    assert run().stderr == ""
    (stack / "stack.yaml").write_text(STACK.replace("registry.test/hello:1", "hello:1"))
    assert run().stderr == "Note: hello: the image hello:1 names no registry: nodes look for it at docker.io\n"
