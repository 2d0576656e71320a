from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestration.local.isolation import Isolation
from orchestration.local.notes import notes
from orchestration.revision import make_revision
from orchestration.spec import FunctionSpec

TEMPLATES = Path(__file__).parent.parent.parent.parent / "runtime-templates"


def told(env_process: str | None, *, runs_command: bool = False) -> list[str]:
    revision = make_revision(FunctionSpec(service="f", image="f", env_process=env_process), "sha256:0", 1, 0.0)
    isolation = Isolation(users=True, mounts=True)
    return [n for n in notes(revision, isolation, None, 1000, runs_command=runs_command) if "command" in n]


def test_a_command_that_the_template_does_not_use_is_told() -> None:
    assert told("gunicorn app:app") == [
        "the command 'gunicorn app:app' is not used: the function's template serves its handler itself"
    ]


@pytest.mark.parametrize("file", sorted(TEMPLATES.glob("*/template.yml")), ids=lambda path: path.parent.name)
def test_what_clients_send_along_from_a_template_is_nothing_to_tell(file: Path) -> None:
    template = yaml.safe_load(file.read_text())
    assert told(template.get("fprocess"), runs_command="fprocess" in template.get("env", {})) == []


def test_a_command_that_the_template_runs_is_nothing_to_tell() -> None:
    assert told("tr a-z A-Z", runs_command=True) == []


def test_neither_is_the_command_of_openfaas_own_template_nor_none() -> None:
    assert told("python index.py") == []
    assert told(None) == []
