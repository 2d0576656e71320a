from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from builder.context import InvalidContext
from builder.extraction import Limits, extract, read_config
from tests.builder.tars import tar_of

TEMPLATE = ("context/template.yml", "language: python3-http\n")


def member(name: str, kind: bytes, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_files_land_below_the_destination_with_plain_modes(tmp_path: Path) -> None:
    tar = tar_of(
        TEMPLATE,
        (member("context/function", tarfile.DIRTYPE, mode=0o700), ""),
        (member("context/function/run.sh", tarfile.REGTYPE, mode=0o740), "echo"),
        (member("context/function/handler.py", tarfile.REGTYPE, mode=0o600), "x = 1"),
    )
    extract(tar, tmp_path / "out")
    function = tmp_path / "out" / "function"
    assert (function / "handler.py").read_text() == "x = 1"
    modes = [path.stat().st_mode & 0o7777 for path in (function, function / "run.sh", function / "handler.py")]
    assert modes == [0o755, 0o755, 0o644]


def test_a_link_inside_is_kept(tmp_path: Path) -> None:
    tar = tar_of((member("context/function/a", tarfile.SYMTYPE, "b/c"), ""), ("context/function/b/c", "text"))
    extract(tar, tmp_path / "out")
    assert (tmp_path / "out/function/a").readlink() == Path("b/c")
    assert (tmp_path / "out/function/a").read_text() == "text"


def test_a_link_to_what_is_not_there_is_kept(tmp_path: Path) -> None:
    extract(tar_of((member("context/function/a", tarfile.SYMTYPE, "absent"), "")), tmp_path / "out")
    assert (tmp_path / "out/function/a").readlink() == Path("absent")


HOSTILE: list[tuple[str, tuple[tuple[tarfile.TarInfo | str, str], ...], str]] = [
    ("parent", (("context/../../x", "x"),), "leaves the build context"),
    ("parent first", (("../x", "x"),), "is not under context/"),
    ("absolute", (("/etc/x", "x"),), "is not under context/"),
    ("absolute link", ((member("context/l", tarfile.SYMTYPE, "/etc/passwd"), ""),), "outside of the build context"),
    ("link up", ((member("context/a/l", tarfile.SYMTYPE, "../../x"), ""),), "outside of the build context"),
    (
        "link through a link",
        ((member("context/a", tarfile.SYMTYPE, "."), ""), (member("context/b", tarfile.SYMTYPE, "a/../.."), "")),
        "outside of the build context",
    ),
    (
        "file through a link",
        ((member("context/a", tarfile.SYMTYPE, "/tmp"), ""), ("context/a/x", "x")),
        "in the build context twice",
    ),
    ("link to itself", ((member("context/a", tarfile.SYMTYPE, "a"), ""),), "round in a circle"),
    (
        "link made to leave by a later one",
        ((member("context/b", tarfile.SYMTYPE, "d/e/../.."), ""), (member("context/d/e", tarfile.SYMTYPE, ".."), "")),
        "outside of the build context",
    ),
    (
        "two links in a circle",
        ((member("context/a", tarfile.SYMTYPE, "b"), ""), (member("context/b", tarfile.SYMTYPE, "a/../.."), "")),
        "round in a circle|outside of the build context",
    ),
    ("hard link", (("context/a", "x"), (member("context/b", tarfile.LNKTYPE, "context/a"), "")), "is a hard link"),
    ("device", ((member("context/d", tarfile.CHRTYPE), ""),), "is a device or a pipe"),
    ("pipe", ((member("context/p", tarfile.FIFOTYPE), ""),), "is a device or a pipe"),
    ("setuid", ((member("context/s", tarfile.REGTYPE, mode=0o4755), "x"),), "setuid"),
    ("twice", (("context/a", "1"), ("context/a", "2")), "in the build context twice"),
    ("file as folder", (("context/a", "1"), ("context/a/b", "2")), "below something that is no folder"),
    ("stray", (("elsewhere", "x"),), "is not under context/"),
]


@pytest.mark.parametrize(("members", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_tar_is_refused_and_writes_nothing_elsewhere(
    tmp_path: Path, members: tuple[tuple[tarfile.TarInfo | str, str], ...], message: str
) -> None:
    with pytest.raises(InvalidContext, match=message):
        extract(tar_of(*members), tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {"deep"}
    assert {path.name for path in (tmp_path / "deep").glob("*")} <= {"out"}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(archive_bytes=2000), "is larger than 2000 bytes"),
        (Limits(files=2), "more than 2 files"),
        (Limits(file_bytes=9), "'context/b' is 10 bytes; a file may have at most 9"),
        (Limits(total_bytes=15), "unpacks to more than 15 bytes"),
        (Limits(path_characters=8), "more than 8 characters"),
        (Limits(config_bytes=3), "at most 3 bytes"),
    ],
)
def test_limits(tmp_path: Path, limits: Limits, message: str) -> None:
    tar = tar_of(("context/a", "1"), ("context/b", "1234567890"), ("context/c", "12345"))
    with pytest.raises(InvalidContext, match=message):
        extract(tar, tmp_path / "out", limits)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (False, "has no com.openfaas.docker.config"),
        ({}, "has no image name"),
        ({"image": 3}, "is not what it should be"),
        ([], "is not what it should be"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, config: object, message: str) -> None:
    with pytest.raises(InvalidContext, match=message):
        extract(tar_of(TEMPLATE, config=config), tmp_path / "out")


def test_the_configuration_of_a_stock_client(tmp_path: Path) -> None:
    config = {
        "image": "reg/echo:latest",
        "buildArgs": {"A": "b", "ADDITIONAL_PACKAGE": ""},
        "platforms": ["linux/amd64", "linux/arm64,linux/s390x"],
        "new": 1,
    }
    read = extract(tar_of(TEMPLATE, config=config), tmp_path / "out")
    assert read.image == "reg/echo:latest"
    assert read.build_args == {"A": "b", "ADDITIONAL_PACKAGE": ""}
    assert read.platforms == ("linux/amd64", "linux/arm64", "linux/s390x")
    assert not read.no_cache


def test_null_maps_are_empty(tmp_path: Path) -> None:
    config = {"image": "echo", "buildArgs": None, "platforms": None}
    assert extract(tar_of(TEMPLATE, config=config), tmp_path / "out").build_args == {}


@pytest.mark.parametrize("content", [b"", b"no tar at all", os.urandom(2048), b"\0" * 1024])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidContext):
        extract(io.BytesIO(content), tmp_path / "out")


def test_a_tar_that_breaks_off_is_refused(tmp_path: Path) -> None:
    whole = tar_of(("context/a", "x" * 5000)).getvalue()
    with pytest.raises(InvalidContext):
        extract(io.BytesIO(whole[:3000]), tmp_path / "out")


def test_the_configuration_and_sealed_secrets_are_read_alone(tmp_path: Path) -> None:
    tar = tar_of(TEMPLATE, ("com.openfaas.secrets", "version: v1"), config={"image": "echo", "skipPush": True})
    config, sealed = read_config(tar)
    assert (config.image, config.skip_push, sealed) == ("echo", True, b"version: v1")
    extract(tar, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["template.yml"]


def test_a_tar_of_the_current_folder_will_do(tmp_path: Path) -> None:
    """As OpenFaaS's documentation has it made: `tar cvf req.tar .`"""
    config = ("./com.openfaas.docker.config", '{"image": "echo"}')
    tar = tar_of((member("./", tarfile.DIRTYPE), ""), ("./context/template.yml", "language: x"), config, config=False)
    assert extract(tar, tmp_path / "out").image == "echo"
    assert read_config(tar)[0].image == "echo"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["template.yml"]
