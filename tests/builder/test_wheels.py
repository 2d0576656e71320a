from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from builder.wheels import InvalidWheel, open_wheel

NAME = "thing-1.0-py3-none-any.whl"
METADATA = (
    "Metadata-Version: 2.4\nName: Thing\nVersion: 1.0\nSummary: Does things\nLicense-Expression: MIT\n"
    "Project-URL: Documentation, https://docs.example.com\nProject-URL: Source, https://example.com/thing\n"
)
PACKAGES = "lib/python3.12/site-packages"


def make(tmp_path: Path, files: dict[str, str], *, modes: dict[str, int] | None = None, name: str = NAME) -> Path:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {"thing-1.0.dist-info/METADATA": METADATA, **files}.items():
            info = zipfile.ZipInfo(file)
            info.external_attr = (modes or {}).get(file, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return path


def unpacked(path: Path) -> dict[str, tuple[bytes, bool]]:
    with open_wheel(path) as wheel:
        return {file.path: (file.read(), file.executable) for file in wheel.files("/venv/bin/python", "3.12")}


def test_files_go_where_they_belong(tmp_path: Path) -> None:
    found = unpacked(
        make(
            tmp_path,
            {
                "thing.py": "x = 1\n",
                "thing-1.0.data/purelib/pure.py": "",
                "thing-1.0.data/scripts/run": "#!python\nprint()\n",
                "thing-1.0.data/scripts/shell": "#!/bin/sh\n",
                "thing-1.0.data/data/share/doc.txt": "read me",
                "thing-1.0.data/headers/thing.h": "",
            },
            modes={"thing.py": stat.S_IFREG | 0o755},
        )
    )
    assert found[f"{PACKAGES}/thing.py"] == (b"x = 1\n", True)
    assert f"{PACKAGES}/pure.py" in found
    assert found["bin/run"] == (b"#!/venv/bin/python\nprint()\n", True)
    assert found["bin/shell"] == (b"#!/bin/sh\n", True)
    assert found["share/doc.txt"] == (b"read me", False)
    assert "include/site/python3.12/thing/thing.h" in found
    assert f"{PACKAGES}/thing-1.0.dist-info/METADATA" in found


def test_entry_points_become_scripts(tmp_path: Path) -> None:
    text = "[console_scripts]\nThing-cli = thing.cli:app.main [extra]\n[other]\nx = y\n"
    content, executable = unpacked(make(tmp_path, {"thing-1.0.dist-info/entry_points.txt": text}))["bin/Thing-cli"]
    assert executable
    assert content.startswith(b"#!/venv/bin/python\n")
    assert b"from thing.cli import app\n" in content
    assert b"sys.exit(app.main())" in content


def test_what_the_metadata_say(tmp_path: Path) -> None:
    with open_wheel(make(tmp_path, {})) as wheel:
        said = wheel.distribution()
    assert (said.name, said.version, said.license, said.summary) == ("Thing", "1.0", "MIT", "Does things")
    assert said.home_page == "https://example.com/thing"


@pytest.mark.parametrize(
    "file", ["../evil.py", "/etc/evil", "a/../../evil", "a\\..\\evil", "thing-1.0.data/scripts/../../evil"]
)
def test_files_that_leave_their_folder_are_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(InvalidWheel, match=f"{NAME} has a file .* that leaves its folder"):
        unpacked(make(tmp_path, {file: ""}))


@pytest.mark.parametrize("target", ["os", "os:system('x')", "a b:main", ":main", "../x:main"])
def test_entry_points_that_are_no_names_are_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(InvalidWheel, match="cannot be a script"):
        unpacked(make(tmp_path, {"thing-1.0.dist-info/entry_points.txt": f"[console_scripts]\nx = {target}\n"}))


@pytest.mark.parametrize("name", ["../x", "a/b", "."])
def test_scripts_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidWheel, match="cannot be a script"):
        unpacked(make(tmp_path, {"thing-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{name} = a:b\n"}))


def test_links_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidWheel, match="'link' is not an ordinary file"):
        unpacked(make(tmp_path, {"link": "/etc/passwd"}, modes={"link": stat.S_IFLNK | 0o777}))


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"no zip")
    with pytest.raises(InvalidWheel, match=f"{NAME} cannot be read"):
        unpacked(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing.py", "")
    with pytest.raises(InvalidWheel, match=r"has no .dist-info/METADATA"):
        unpacked(path)
    with pytest.raises(InvalidWheel, match="is not named as a wheel is"):
        unpacked(make(tmp_path, {}, name="thing.whl"))
