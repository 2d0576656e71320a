"""Functions as images: built with the command line or a builder of its own, pushed, and run by a gateway that pulls them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builder.base_image import make_base
from tests.builder.registry.docker_registry import docker_registry, program
from tests.end_to_end.platform import Platform, running

HANDLER = "def handle(event, context):\n    return 'from an image'\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base") / "oci")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, host: str, base: str) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("gateway"), "--registries", host, "--base-image", base) as platform:
        platform.environment |= {"PINNACE_BASE_IMAGE": base, "PINNACE_IMAGES": str(platform.home / "images")}
        yield platform


def function(platform: Platform, name: str, handler: str = HANDLER) -> Path:
    folder = platform.home / name
    folder.mkdir(exist_ok=True)
    (folder / "handler.py").write_text(handler)
    return folder


def digest(image: str) -> str:
    command = [program("skopeo"), "inspect", "--tls-verify=false", f"docker://{image}"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return str(said["Digest"])


def test_published_here_and_deployed_there(gateway: Platform, host: str) -> None:
    image = f"{host}/team/published:1"
    done = gateway.faas("publish", function(gateway, "published"), "--lang", "python3-http", "--image", image)
    assert f"Image: {image} ({digest(image)})" in done.stdout
    gateway.faas("deploy", "--image", image, "--name", "published")
    assert gateway.call("published").body == b"from an image"


def test_the_same_tag_again_is_what_it_stands_for_now(gateway: Platform, host: str) -> None:
    image = f"{host}/team/again:1"
    for text in ("one", "two"):
        folder = function(gateway, "again", f"def handle(event, context):\n    return {text!r}\n")
        gateway.faas("publish", folder, "--lang", "python3-http", "--image", image)
        gateway.faas("deploy", "--image", image, "--name", "again")
        assert gateway.call("again").text == text


def test_an_image_by_digest(gateway: Platform, host: str) -> None:
    image = f"{host}/team/pinned:1"
    gateway.faas("publish", function(gateway, "pinned"), "--lang", "python3-http", "--image", image)
    gateway.faas("deploy", "--image", f"{host}/team/pinned@{digest(image)}", "--name", "pinned")
    assert gateway.call("pinned").body == b"from an image"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("{host}/team/absent:1", "does not have it: manifest unknown"),
        ("registry.invalid/team/x:1", "there is no bundle for image 'registry.invalid/team/x:1' on this gateway"),
        ("x:1", "there is no bundle for image 'x:1' on this gateway"),
    ],
)
def test_an_image_that_cannot_be_had_is_told(gateway: Platform, host: str, image: str, reason: str) -> None:
    body = json.dumps({"service": "absent", "image": image.format(host=host)})
    answer = gateway.request("POST", "/system/functions", body)
    assert (answer.status, reason in answer.text) == (400, True), answer


def test_a_gateway_pushes_what_it_builds(gateway: Platform, host: str) -> None:
    image = f"{host}/team/built-there:1"
    function(gateway, "built-there")
    (gateway.home / "stack.yaml").write_text(
        "provider: {name: openfaas}\n"
        f"functions:\n  built-there:\n    lang: python3-http\n    handler: ./built-there\n    image: {image}\n"
    )
    gateway.faas("deploy")
    assert gateway.call("built-there").body == b"from an image"
    assert digest(image).startswith("sha256:")
    (gateway.home / "stack.yaml").unlink()


def test_a_builder_of_its_own(tmp_path: Path, gateway: Platform, host: str, base: str) -> None:
    image = f"{host}/team/remote:1"
    secret = tmp_path / "netrc"
    secret.write_text("machine example.com login a password b\n")
    folder = function(gateway, "remote")
    stack = gateway.home / "remote.yaml"
    stack.write_text(
        "provider: {name: openfaas}\nfunctions:\n  remote:\n    lang: python3-http\n"
        f"    handler: ./{folder.name}\n    image: {image}\n    build_secrets: {{netrc: {secret}}}\n"
    )
    (tmp_path / "home").mkdir()
    builder = Platform(tmp_path / "home", "--registries", host, "--base-image", base)
    builder.start("builder")
    try:
        assert builder.request("GET", "/healthz", login=False).status == 200
        assert builder.request("GET", "/system/functions").status == 404
        assert builder.request("POST", "/build", b"x", login=False).status == 401
        payload = str(builder.data / "payload-secret")
        flags = ("-f", str(stack), "--remote-builder", builder.url, "--payload-secret", payload)
        done = gateway.faas("publish", *flags, "-v")
        assert "Published remote in" in done.stdout
        assert f"pushed {host}/team/remote@{digest(image)}" in done.stderr
        other = tmp_path / "other"
        other.write_text("another secret")
        refused = gateway.faas("publish", *flags[:-1], str(other), check=False)
        assert refused.returncode == 4
        assert "does not accept the signature" in refused.stderr
    finally:
        assert builder.stop(20) == 0
    gateway.faas("deploy", "--image", image, "--name", "remote")
    assert gateway.call("remote").body == b"from an image"
