from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.container_tool import ContainerTool, ContainerToolFailed, ImageRequest, Kind, find_tool

WHOLE = ImageRequest(
    context=Path("/ctx"),
    image="reg/x:1",
    build_args={"B": "2", "A": "1"},
    platforms=("linux/amd64", "linux/arm64"),
    secrets={"key": Path("/key")},
    no_cache=True,
    push=True,
)
PLAIN = ImageRequest(context=Path("/ctx"), image="x:1")
FLAGS = "--platform linux/amd64,linux/arm64 --build-arg A=1 --build-arg B=2 --secret id=key,src=/key --no-cache /ctx"

BUILDCTL = (
    "buildctl --addr tcp://b:1 build --progress=plain --frontend=dockerfile.v0 --local context=/ctx --local dockerfile=/ctx"
    " --opt build-arg:A=1 --opt build-arg:B=2 --opt platform=linux/amd64,linux/arm64 --secret id=key,src=/key --no-cache"
    " --output type=image,name=reg/x:1,push=true"
)


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("there", "environ", "kind"),
    [
        (("buildah", "podman", "docker"), {}, Kind.BUILDAH),
        (("podman", "docker"), {}, Kind.PODMAN),
        (("docker",), {}, Kind.DOCKER),
        (("buildctl", "buildah"), {}, Kind.BUILDAH),
        (("buildctl", "buildah"), {"BUILDKIT_HOST": "tcp://b:1234"}, Kind.BUILDKIT),
        (("buildah", "podman"), {"PINNACE_CONTAINER_TOOL": "podman"}, Kind.PODMAN),
    ],
)
def test_the_first_that_is_there_is_used(tmp_path: Path, there: tuple[str, ...], environ: dict[str, str], kind: Kind) -> None:
    for name in there:
        program(tmp_path / "bin", name)
    tool = find_tool({"PATH": str(tmp_path / "bin"), **environ})
    assert (tool.kind, tool.program, tool.address) == (kind, str(tmp_path / "bin" / kind), environ.get("BUILDKIT_HOST", ""))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, r"install buildah \(apt-get install buildah\), podman or docker with buildx, or give the address of a BuildKit"),
        ({"BUILDKIT_HOST": "tcp://b:1"}, "BuildKit needs its client buildctl in PATH"),
        ({"PINNACE_CONTAINER_TOOL": "kaniko"}, "PINNACE_CONTAINER_TOOL='kaniko': one of buildctl, buildah, podman, docker"),
        ({"PINNACE_CONTAINER_TOOL": "podman"}, "asks for podman, which is not on this machine"),
    ],
)
def test_without_any_it_is_said_what_to_install(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    program(tmp_path, "docker", "exit 1")  # a docker without buildx is none
    with pytest.raises(ContainerToolFailed, match=message):
        find_tool({"PATH": str(tmp_path), **environ})


@pytest.mark.parametrize(
    ("tool", "wanted", "commands"),
    [
        (ContainerTool(Kind.BUILDAH, "buildah"), PLAIN, ["buildah build --tag x:1 /ctx"]),
        (
            ContainerTool(Kind.PODMAN, "podman"),
            WHOLE,
            [
                "podman manifest rm reg/x:1",
                f"podman build --manifest reg/x:1 {FLAGS}",
                "podman manifest push --all reg/x:1 docker://reg/x:1",
            ],
        ),
        (ContainerTool(Kind.DOCKER, "docker"), PLAIN, ["docker buildx build --progress=plain --tag x:1 --load /ctx"]),
        (ContainerTool(Kind.DOCKER, "docker"), WHOLE, [f"docker buildx build --progress=plain --tag reg/x:1 --push {FLAGS}"]),
        (
            ContainerTool(Kind.BUILDKIT, "buildctl", "tcp://b:1"),
            WHOLE,
            [BUILDCTL],
        ),
    ],
)
def test_each_is_asked_in_its_own_words(tool: ContainerTool, wanted: ImageRequest, commands: list[str]) -> None:
    assert [" ".join(command) for command in tool.commands(wanted)] == commands


def test_a_failure_is_its_last_line(tmp_path: Path) -> None:
    program(tmp_path, "buildah", 'echo "STEP 1"; echo "Error: no such image" >&2; exit 125')
    lines: list[str] = []
    with pytest.raises(ContainerToolFailed, match=r"^buildah build: Error: no such image$") as caught:
        ContainerTool(Kind.BUILDAH, str(tmp_path / "buildah")).build(PLAIN, lines.append)
    assert lines == ["STEP 1", "Error: no such image"] == list(caught.value.log)


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    program(tmp_path, "buildah", "exec sleep 60")
    with pytest.raises(ContainerToolFailed, match=r"buildah took longer than 0\.2 s"):
        ContainerTool(Kind.BUILDAH, str(tmp_path / "buildah")).build(PLAIN, lambda _: None, time_limit_s=0.2)


def test_an_image_is_pushed_later(tmp_path: Path) -> None:
    program(tmp_path, "podman", 'echo "$@"')
    lines: list[str] = []
    ContainerTool(Kind.PODMAN, str(tmp_path / "podman")).push("reg/x:1", lines.append)
    assert lines == ["push reg/x:1"]
    with pytest.raises(ContainerToolFailed, match="BuildKit pushes an image when it builds it: use faas publish"):
        ContainerTool(Kind.BUILDKIT, "buildctl", "tcp://b:1").push("reg/x:1", lines.append)


def test_a_manifest_list_that_is_not_there_is_no_failure(tmp_path: Path) -> None:
    program(tmp_path, "podman", '[ "$1 $2" = "manifest rm" ] && exit 1; echo "$@"')
    lines: list[str] = []
    ContainerTool(Kind.PODMAN, str(tmp_path / "podman")).build(WHOLE, lines.append)
    assert [line.split()[0] for line in lines] == ["build", "manifest"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a container builder's storage")
@pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not on this machine")
def test_a_real_builder_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From scratch, so that nothing is fetched, into a storage of the test's own."""
    storage = tmp_path / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path / "graph"}"\nrunroot = "{tmp_path / "run"}"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nARG WORD=none\nLABEL word=$WORD\nCOPY handler /handler\n")
    (context / "handler").write_text("#!/bin/sh\n")
    lines: list[str] = []
    tool = ContainerTool(Kind.BUILDAH, str(shutil.which("buildah")))
    tool.build(ImageRequest(context=context, image="localhost/made:1", build_args={"WORD": "given"}), lines.append)
    shown = subprocess.run(
        ["buildah", "inspect", "--format", "{{.OCIv1.Config.Labels.word}}", "localhost/made:1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "given"
