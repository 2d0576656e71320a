"""The platform's own image: what is in it, and that it follows from what goes in."""

from __future__ import annotations

import functools
import json
import re
import time
import tomllib
from pathlib import Path

import pytest

from builder.bases import BaseUnavailable
from builder.context import InvalidContext
from builder.oci.documents import Descriptor, Index, Manifest
from builder.own_image import DATA, LOCK, PACKAGES, ROOT, OwnImage
from builder.packing import DEPENDENCIES_PLACE
from builder.platforms import Platform, host_platform
from builder.sbom import CYCLONEDX
from tests.builder.conftest import MakeWheel
from tests.builder.image_place import PYTHON, Place, small_base

PLACE = f"{DEPENDENCIES_PLACE}/lib/python{PYTHON}/site-packages"


@pytest.fixture
def lock(tmp_path: Path, wheels: MakeWheel) -> Path:
    """A short list of packages."""
    wheels("thing", "4.2")
    folder = tmp_path / "lock"
    folder.mkdir()
    (folder / "requirements.txt").write_text("thing==4.2\n")
    return folder


def build(place: Place, lock: Path, *platforms: Platform) -> Descriptor:
    image = OwnImage(place.store, place.log.log, base=place.base, created="1970-01-01T00:00:00Z", lock=lock)
    return image.build("pinnace:1", platforms or [host_platform()])


def test_two_machines_make_the_same(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for number, now in enumerate((1_000_000.0, 1_003_600.0)):
        monkeypatch.setattr(time, "time", functools.partial(float, now))
        place = Place(tmp_path / f"machine-{number}", small_base(tmp_path / f"base-{number}"))
        built = build(place, lock)
        made.append((built, place.layout.referrers(built)))
    assert made[0] == made[1]


def test_it_holds_this_installation_and_its_packages(tmp_path: Path, lock: Path) -> None:
    place = Place(tmp_path / "machine", small_base(tmp_path / "base"))
    built = build(place, lock)
    _, dependencies, platform = place.manifest(built).layers
    assert f"{PLACE}/thing.py" in place.names(dependencies)
    names = set(place.names(platform))
    assert {f"{PLACE}/{name}" for name in (*PACKAGES, *DATA)} <= names
    assert f"{PLACE}/runtime-templates/python3-http/template.yml" in names
    assert f"{PLACE}/cli/__pycache__/main.cpython-{PYTHON.replace('.', '')}.pyc" in names
    assert any(re.fullmatch(rf"{PLACE}/pinnace-[^/]+\.dist-info/METADATA", name) for name in names)
    assert f"{DEPENDENCIES_PLACE}/bin/faas" in names
    assert not any("/tests/" in name or ".git" in name for name in names)
    run = place.config(built).config
    assert run is not None and (run.user, run.entrypoint) == ("12000:12000", ("faas",))
    (bill,) = place.layout.referrers(built)
    (blob,) = place.layout.document(bill, Manifest).layers
    assert bill.artifact_type == CYCLONEDX
    said = json.loads(place.layout.path(blob.digest).read_bytes())
    assert said["metadata"]["component"]["name"] == "pinnace"
    assert "thing" in {component["name"] for component in said["components"]}


def test_another_version_of_the_platform_is_one_new_layer(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "machine", small_base(tmp_path / "base"))
    before = place.manifest(build(place, lock)).layers
    monkeypatch.setattr("builder.own_image.DATA", ("deploy",))
    after = place.manifest(build(place, lock)).layers
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]


def test_for_two_platforms_it_is_an_index(tmp_path: Path, lock: Path) -> None:
    place = Place(tmp_path / "machine", small_base(tmp_path / "base", "amd64", "arm64"))
    built = build(place, lock, Platform("amd64"), Platform("arm64"))
    found = place.layout.document(built, Index).manifests
    assert [entry.platform.architecture for entry in found if entry.platform] == ["amd64", "arm64"]
    assert len(place.layout.referrers(found[0])) == 1


def test_what_cannot_be_built_says_why(tmp_path: Path, lock: Path) -> None:
    place = Place(tmp_path / "machine", "base.test/none:1")
    with pytest.raises(InvalidContext, match="no list of its packages"):
        OwnImage(place.store, place.log.log, base=place.base, created="", lock=tmp_path)
    with pytest.raises(BaseUnavailable, match="offline"):
        OwnImage(place.store, place.log.log, base=place.base, created="", lock=lock, offline=True).build(
            "pinnace:1", [host_platform()]
        )


def test_the_list_of_packages_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        re.split(r"[><=\[ ]", line)[0]
        for line in (*project["dependencies"], *extras["kubernetes"], *extras["redis"], *extras["zstd"])
    }
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (LOCK / "requirements.txt").read_text(), re.MULTILINE))
    assert wanted <= set(pinned), "write it anew: scripts/lock"
    tested = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    assert pinned == {name: tested[name] for name in pinned}, "an image has what the tests have: scripts/lock"
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert (tuple(hatch["packages"]), set(hatch["force-include"])) == (PACKAGES, set(DATA)), "an image has what a wheel has"
