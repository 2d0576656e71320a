"""`faas build`, `push` and `publish`, on a base made for the occasion."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.extraction import read_config
from builder.keys import BuilderKey
from builder.oci.documents import ImageConfig, Index, Manifest
from builder.oci.layout import Layout
from builder.sealing import unseal
from cli.images import open_store
from tests.builder.image_place import small_base
from tests.builder.registry.docker_registry import docker_registry
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

HANDLER = "def handle(event, context):\n    return 'hi'\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(autouse=True)
def own_store(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function `hello` in the project's folder; a store and a base for this test."""
    monkeypatch.setenv("PINNACE_IMAGES", str(tmp_path / "images"))
    monkeypatch.setenv("PINNACE_BASE_IMAGE", small_base(tmp_path / "base", "amd64", "arm64"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (project / "hello").mkdir()
    (project / "hello" / "handler.py").write_text(HANDLER)


def stack(project: Path, *names: str, more: str = "") -> None:
    text = "provider: {name: openfaas}\nfunctions:\n"
    for name in names:
        (project / name).mkdir(exist_ok=True)
        (project / name / "handler.py").write_text(HANDLER)
        text += f"  {name}:\n    lang: python3-http\n    handler: ./{name}\n    image: team/{name}:1.0\n{more}"
    (project / "stack.yaml").write_text(text)


def manifest_of(name: str) -> Manifest:
    layout = open_store().layout
    return layout.document(layout.names()[name], Manifest)


def config_of(name: str) -> ImageConfig:
    return open_store().layout.document(manifest_of(name).config, ImageConfig)


class TestBuild:
    def test_a_folder_becomes_an_image_without_a_gateway(self, faas: Faas) -> None:
        done = faas("build", "hello", "--image", "team/hello:1")
        assert done.code == 0, done.err
        image = open_store().layout.names()["team/hello:1"]
        assert f"Image: team/hello:1 ({image.digest})" in done.out

    def test_the_functions_of_a_stack_file(self, faas: Faas, project: Path) -> None:
        stack(project, "one", "two", "three")
        assert faas("build", "--filter", "t*", "--parallel", "2").code == 0
        assert sorted(open_store().layout.names()) == ["team/three:1.0", "team/two:1.0"]

    def test_for_several_platforms(self, faas: Faas) -> None:
        assert faas("build", "hello", "--platforms", "linux/amd64, linux/arm64").code == 0
        layout = open_store().layout
        assert len(layout.document(layout.names()["hello:latest"], Index).manifests) == 2
        refused = faas("build", "hello", "--platforms", "windows/amd64")
        assert (refused.code, "images are built for linux/amd64 and linux/arm64" in refused.err) == (2, True)

    def test_labels_and_the_date(self, faas: Faas, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
        assert faas("build", "hello", "--build-label", "team=a").code == 0
        config = config_of("hello:latest")
        assert config.created == "1970-01-02T00:00:00Z"
        assert config.config is not None
        assert (config.config.labels or {})["team"] == "a"
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
        assert faas("build", "hello").code == 2

    @pytest.mark.parametrize("kind", ["tar", "oci-layout"])
    def test_images_are_written_for_where_there_is_no_registry(self, faas: Faas, project: Path, kind: str) -> None:
        assert faas("build", "hello", "--output", f"{kind}=out/hello").code == 0
        if kind == "tar":
            faas("push", "--from", "out/hello", "--image", "hello:latest")
        else:
            assert list(Layout(project / "out" / "hello").names()) == ["hello:latest"]

    def test_failing_tests_stop_it(self, faas: Faas, project: Path) -> None:
        (project / "hello" / "test_hello.py").write_text(
            "import unittest\n\nclass T(unittest.TestCase):\n    def test_x(self):\n        self.fail()\n"
        )
        assert faas("build", "hello").code == 1
        assert faas("build", "hello", "--skip-tests").code == 0

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("hello", "--output", "zip"), "oci-layout or tar"),
            (("hello", "--image", "Not A Name"), "is not an image name"),
            (("nowhere",), "nowhere"),
        ],
    )
    def test_what_is_not_right_is_told(self, faas: Faas, arguments: tuple[str, ...], reason: str) -> None:
        done = faas("build", *arguments)
        assert (done.code, reason in done.err) == (2, True), done.err

    def test_a_base_that_cannot_be_had_is_told(self, faas: Faas) -> None:
        done = faas("build", "hello", "--base-image", "127.0.0.1:1/base:1")
        assert done.code == 1
        assert "hello: not built: the base image 127.0.0.1:1/base:1 cannot be pulled: the registry 127.0.0.1:1" in done.err
        assert "another base is given with --base-image" in done.err


class TestTags:
    @pytest.fixture
    def commit(self, project: Path) -> str:
        """The project is a repository, at a commit with the tag v1."""

        def git(*arguments: str) -> str:
            command = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

        git("init", "-q", "-b", "feature/x")
        git("add", ".")
        git("commit", "-qm", "one")
        git("tag", "v1")
        return git("rev-parse", "HEAD")

    def built(self, faas: Faas, tagging: str) -> str:
        done = faas("build", "hello", "--image", "team/hello:1.0", "--tag", tagging)
        assert done.code == 0, done.err
        return done.out.partition("Image: ")[2].partition(" ")[0]

    def test_what_git_says(self, faas: Faas, commit: str) -> None:
        assert self.built(faas, "latest") == "team/hello:1.0"
        assert self.built(faas, "sha") == f"team/hello:1.0-{commit[:7]}"
        assert self.built(faas, "branch") == f"team/hello:1.0-feature-x-{commit[:7]}"
        assert self.built(faas, "describe") == "team/hello:1.0-v1"

    def test_the_commit_is_a_label(self, faas: Faas, commit: str, project: Path) -> None:
        faas("build", "hello")
        config = config_of("hello:latest").config
        assert config is not None
        assert (config.labels or {})["org.opencontainers.image.revision"] == commit
        (project / "hello" / "handler.py").write_text("# changed\n" + HANDLER)
        faas("build", "hello")
        assert (manifest_of("hello:latest").annotations or {})["org.opencontainers.image.revision"] == f"{commit}-dirty"

    def test_a_digest_follows_the_code(self, faas: Faas, project: Path) -> None:
        first = self.built(faas, "digest")
        assert self.built(faas, "digest") == first
        (project / "hello" / "handler.py").write_text("# changed\n" + HANDLER)
        assert self.built(faas, "digest") != first

    def test_no_repository_is_told(self, faas: Faas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
        done = faas("build", "hello", "--tag", "sha")
        assert (done.code, "not a git repository" in done.err) == (2, True)


class TestPush:
    def test_what_was_built_is_pushed(self, faas: Faas, host: str) -> None:
        image = f"{host}/team/hello:1"
        faas("build", "hello", "--image", image)
        done = faas("push", "hello", "--image", image, "--extra-tag", "stable")
        assert done.code == 0, done.err
        digest = open_store().layout.names()[image].digest
        assert f"Pushed {image} ({digest}): " in done.out

    def test_from_a_file_on_another_machine(
        self, faas: Faas, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = f"{host}/team/carried:1"
        faas("build", "hello", "--image", image, "-o", "tar=carried.tar")
        monkeypatch.setenv("PINNACE_IMAGES", str(tmp_path / "elsewhere"))
        done = faas("push", "--from", "carried.tar", "--image", image)
        assert done.code == 0, done.err
        assert f"Pushed {image}" in done.out

    def test_what_was_not_built_is_told(self, faas: Faas) -> None:
        done = faas("push", "hello", "--image", "team/hello:1")
        assert (done.code, "there is no image team/hello:1 on this machine: build it first" in done.err) == (1, True)

    def test_a_registry_that_is_not_there_is_told(self, faas: Faas) -> None:
        faas("build", "hello", "--image", "127.0.0.1:1/hello:1")
        done = faas("push", "hello", "--image", "127.0.0.1:1/hello:1")
        assert (done.code, "not pushed: the registry 127.0.0.1:1 cannot be reached" in done.err) == (1, True)


class TestPublish:
    def test_built_and_pushed_at_once(self, faas: Faas, host: str) -> None:
        image = f"{host}/team/published:1"
        done = faas("publish", "hello", "--image", image, "--platforms", "linux/amd64,linux/arm64")
        assert done.code == 0, done.err
        assert open_store().layout.names()[image].is_index

    def test_a_remote_builder_gets_a_signed_build_with_sealed_secrets(
        self, faas: Faas, gateway: Gateway, project: Path, tmp_path: Path
    ) -> None:
        key = BuilderKey(tmp_path)
        public = key.public()
        said = {"key_id": public.key_id, "algorithm": public.algorithm, "public_key": public.public_key}
        gateway.canned["GET /publickey"] = (200, {}, json.dumps(said).encode())
        stack(project, "hello", more="    build_secrets: {netrc: ./netrc}\n")
        (project / "netrc").write_text("machine example.com")
        (project / "payload").write_text("secret\n")
        done = faas("publish", "--remote-builder", gateway.url, "--payload-secret", "payload")
        assert done.code == 0, done.err
        (sent,) = gateway.asked_for("POST /build")
        assert "authorization" not in sent.headers
        expected = hmac.new(b"secret", sent.body, hashlib.sha256).hexdigest()
        assert sent.headers["x-build-signature"] == f"sha256={expected}"
        config, sealed = read_config(io.BytesIO(sent.body))
        assert config.image == "team/hello:1.0"
        assert sealed is not None
        assert unseal(sealed, key) == {"netrc": b"machine example.com"}

    def test_flags_that_do_not_go_together(self, faas: Faas, gateway: Gateway) -> None:
        assert faas("publish", "hello", "--payload-secret", "x").code == 2
        assert faas("publish", "hello", "--remote-builder", gateway.url, "--extra-tag", "x").code == 2

    @pytest.mark.parametrize(
        "flags",
        [
            ("--base-image", "a/b:1"),
            ("--pull",),
            ("--offline",),
            ("--compression", "zstd"),
            ("--no-sbom",),
            ("--build-label", "a=b"),
        ],
    )
    def test_what_a_remote_builder_would_not_hear_of_is_refused(
        self, faas: Faas, gateway: Gateway, flags: tuple[str, ...]
    ) -> None:
        done = faas("publish", "hello", "--remote-builder", gateway.url, *flags)
        assert done.code == 2
        assert f"Error: {flags[0]}: for builds on this machine only" in done.err
        assert not gateway.asked_for("POST /build")

    @pytest.mark.parametrize(
        ("image", "said"),
        [
            (
                "team/hello:1.0",
                "Built hello at {url} in 0.1s. Image: team/hello:1.0, which says no registry: nothing was pushed",
            ),
            ("registry.example.com/hello:1.0", "Published hello in 0.1s. Image: registry.example.com/hello:1.0"),
        ],
    )
    def test_only_what_was_pushed_is_called_published(
        self, faas: Faas, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, image: str, said: str
    ) -> None:
        monkeypatch.setattr("cli.commands.publish.seconds_text", lambda seconds: "0.1s")
        done = faas("publish", "hello", "--remote-builder", gateway.url, "--image", image)
        assert (done.code, done.out) == (0, said.format(url=gateway.url) + "\n")

    def test_a_gateway_that_pushed_nothing_has_published_nothing(self, faas: Faas, gateway: Gateway) -> None:
        gateway.build_report.insert(0, {"log": ["not pushed: it pushes to none (--registries)"], "status": "in_progress"})
        done = faas("publish", "hello", "--remote-builder", gateway.url)
        assert done.code == 1
        assert f"hello: built for {gateway.url} itself, but not pushed: it pushes to none" in done.err
        assert "Published" not in done.out
