from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cli.commands.serve import serve
from cli.settings import InvalidServeSetting, ServeSettings, load, spoken, variable

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    config = tmp_path / "pinnace.toml"
    config.write_text('port = 1\nworkers = 3\nbundle_quota = "2Gi"\n')
    environment = {"PINNACE_PORT": "2", "PINNACE_OFFLINE": "true"}
    settings = load({"port": 3, "host": None}, environment, str(config))
    assert (settings.port, settings.workers, settings.offline, settings.host) == (3, 3, True, "127.0.0.1")
    assert settings.bundle_quota_bytes == 2 << 30
    assert load({}, environment, str(config)).port == 2
    assert load({}, {}, str(config)).port == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PINNACE_PORT": "http"}, "environment: port='http': a whole number"),
        ({"PINNACE_PORT": "70000"}, "0 to 65535"),
        ({"PINNACE_WORKERS": "0"}, "1 to 64"),
        ({"PINNACE_AUTH": "perhaps"}, "true or false"),
        ({"PINNACE_BUNDLE_QUOTA": "lots"}, "not a quantity"),
        ({"PINNACE_BUILD_TIME_LIMIT": "soon"}, "not a duration"),
        ({"PINNACE_LOG_FORMAT": "xml"}, "console or json"),
        ({"PINNACE_QUEUE": "http://u:secret@somewhere"}, "queue: 'http://somewhere': redis://HOST:PORT/DB"),
        ({"PINNACE_QUEUE": "redis://somewhere/zero"}, "unix://PATH"),
        ({"PINNACE_QUEUE": "redis://somewhere", "PINNACE_QUEUE_NAME": "{a}"}, "1 to 64 letters"),
    ],
)
def test_wrong_values_are_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidServeSetting, match=re.escape(words)):
        load({}, environment)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "pinnace.toml"
    with pytest.raises(InvalidServeSetting, match="No such file"):
        load({}, {}, str(config))
    config.write_text("prot = 1\n")
    with pytest.raises(InvalidServeSetting, match="unknown setting 'prot'; did you mean port\\?"):
        load({}, {}, str(config))
    config.write_text("port\n")
    with pytest.raises(InvalidServeSetting, match=re.escape(str(config))):
        load({}, {}, str(config))


def test_each_setting_is_a_flag() -> None:
    flags = {parameter.name for parameter in serve.params if any(flag.startswith("--") for flag in parameter.opts)}
    assert {field.name for field in dataclasses.fields(ServeSettings)} <= flags


@pytest.mark.parametrize("size", ["577Mi", "0", "1Gi"])
def test_a_larger_build_context_than_is_unpacked_is_not_asked_for(size: str) -> None:
    with pytest.raises(InvalidServeSetting, match=r"build_body_limit .*: 1 to 576Mi; no build unpacks more"):
        load({"build_body_limit_bytes": size}, {})


def test_lists_come_from_commas_or_arrays(tmp_path: Path) -> None:
    assert load({}, {"PINNACE_ALLOW_HOSTS": "a.example, b.example,"}).allow_hosts == ("a.example", "b.example")
    config = tmp_path / "pinnace.toml"
    config.write_text('trusted_proxies = ["10.0.0.0/8"]\n')
    assert load({}, {}, str(config)).trusted_proxies == ("10.0.0.0/8",)


def test_the_settings_page_lists_every_setting_as_it_is() -> None:
    page = (DOCS / "settings.md").read_text()
    for field in dataclasses.fields(ServeSettings):
        row = f"| `{spoken(field.name)}` | `{variable(spoken(field.name))}` |"
        line = next((line for line in page.splitlines() if line.startswith(row)), None)
        assert line is not None, f"docs/settings.md has no row {row}"
        assert field.metadata["help"] in line
