from __future__ import annotations

from pathlib import Path

import pytest

from builder.build_secrets import write_secrets
from builder.dependencies import Dependencies
from builder.requirements import Requirements
from builder.store import BundleStore
from builder.wheelhouse import DependenciesFailed
from tests.builder.conftest import MakeWheel


def test_files_are_the_builders_alone(tmp_path: Path) -> None:
    secrets = write_secrets(
        {"pip.conf": b"[global]\n", "netrc": b"machine x\n", "pip_index_url": b" https://x/simple\n"}, tmp_path
    )
    assert Path(secrets.variables["PIP_CONFIG_FILE"]).read_bytes() == b"[global]\n"
    assert Path(secrets.variables["NETRC"]).read_bytes() == b"machine x\n"
    assert secrets.variables["PIP_INDEX_URL"] == "https://x/simple"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert "https" not in repr(secrets)


def test_names_that_mean_nothing_are_told_and_written_nowhere(tmp_path: Path) -> None:
    secrets = write_secrets({"github_token": b"x"}, tmp_path)
    assert (secrets.unused, secrets.place, dict(secrets.variables)) == (("github_token",), "", {})
    assert list(tmp_path.iterdir()) == []


def test_the_place_is_the_secrets_own(tmp_path: Path) -> None:
    places = set()
    for number, content in enumerate((b"a", b"b", b"a")):
        folder = tmp_path / str(number)
        folder.mkdir()
        places.add(write_secrets({"netrc": content}, folder).place)
    assert len(places) == 2


def test_what_one_build_fetched_with_secrets_no_other_gets(
    store: BundleStore, tmp_path: Path, wheels: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private index may have a `requests` of its own: it must not become everybody's."""
    wheel = wheels("private")
    folder = tmp_path / "secrets"
    folder.mkdir()
    config = f"[global]\nno-index = true\nfind-links = {wheel.parent}\n"
    secrets = write_secrets({"pip.conf": config.encode()}, folder)
    for variable in ("PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    wanted = Requirements(("private",))
    layer = Dependencies(store, lambda _: None, secrets=secrets).layer(wanted)
    assert list((store.folder(layer) / "lib").glob("python*/site-packages/private.py"))
    with pytest.raises(DependenciesFailed):
        Dependencies(store, lambda _: None).layer(wanted)
    assert list(store.wheels.glob("*.whl")) == []
    assert store.usage_bytes() > layer.size_bytes  # but the quota counts them
