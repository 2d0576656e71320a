from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder import target_pip
from builder.context import InvalidContext
from builder.platforms import Platform, Target, check_includes_host, host_platform, parse_platform

AMD = Platform("amd64")
ARM = Platform("arm64")


@pytest.mark.parametrize(("text", "platform"), [("linux/amd64", AMD), ("linux/arm64", ARM), (" linux/arm64/v8 ", ARM)])
def test_names(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize("text", ["", "amd64", "linux/s390x", "windows/amd64", "linux/amd64/v3", "linux/arm/v7"])
def test_what_no_image_is_built_for(text: str) -> None:
    with pytest.raises(InvalidContext, match="images are built for linux/amd64 and linux/arm64, not for"):
        parse_platform(text)


def test_wheels_for_glibc_are_newest_first_with_their_old_names() -> None:
    tags = Target(AMD, "3.12.4", "glibc", (2, 28)).wheel_platforms()
    assert tags[0] == "manylinux_2_28_x86_64"
    assert tags.index("manylinux_2_17_x86_64") + 1 == tags.index("manylinux2014_x86_64")
    assert tags[-1] == "manylinux1_x86_64"
    assert "manylinux_2_29_x86_64" not in tags


def test_there_are_no_old_wheels_for_arm() -> None:
    assert Target(ARM, "3.12", "glibc", (2, 18)).wheel_platforms() == (
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    )


def test_wheels_for_musl() -> None:
    tags = ("musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "musllinux_1_0_aarch64")
    assert Target(ARM, "3.12", "musl", (1, 2)).wheel_platforms() == tags


def test_a_bundle_is_for_this_machine() -> None:
    here = str(host_platform())
    other = "linux/arm64" if here == "linux/amd64" else "linux/amd64"
    for platforms in ([], [here], [other, here], [f"{here}/v8"]):
        check_includes_host(platforms)
    with pytest.raises(InvalidContext, match=f"builds for {here} only, not for {other}: pass --platforms {here}"):
        check_includes_host([other])


def test_this_machine_has_a_platform() -> None:
    assert str(host_platform()) in ("linux/amd64", "linux/arm64")


def test_pip_asks_for_the_markers_of_the_target(tmp_path: Path) -> None:
    """What is put in pip's place must be what pip asks: this fails when its vendored `packaging` changes shape."""
    environment = Target(ARM, "3.99.1", "glibc", (2, 36)).marker_environment()
    requirements = tmp_path / "r.txt"
    requirements.write_text("no-such-package-a; platform_machine == 'x86_64' or python_version < '3.99'\n")
    arguments = ["download", "--no-index", "--no-deps", "--dest", str(tmp_path), "-r", str(requirements)]
    command = [sys.executable, "-I", target_pip.__file__, json.dumps(environment), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin", "PIP_CONFIG_FILE": "/dev/null"})
    assert "Ignoring no-such-package-a: markers" in result.stdout
    assert result.returncode == 0
