"""What an edge calls the place that it is at: a pod, of which it is the one process."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from cli.cluster import POD_VARIABLE, held_place
from gateway.edge.places import new_name, place_of


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"edge-{uuid.uuid4()}"
    monkeypatch.setenv(POD_VARIABLE, name)
    return name


def test_a_pod_is_the_place_of_one_process_at_a_time(pod: str, caplog: pytest.LogCaptureFixture) -> None:
    with held_place() as one:
        with held_place() as another:
            assert (one, another) == (pod, "")
            assert place_of(new_name(one)) == pod != place_of(new_name(another))
        assert f"another edge says that it is pod {pod}" in caplog.text
    with held_place() as next_one:
        assert next_one == pod


def test_who_comes_after_a_process_that_was_killed_has_its_place(pod: str) -> None:
    program = "import time; from cli.cluster import held_place\nwith held_place() as p: print(p, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{pod}\n"
        with held_place() as meanwhile:
            assert meanwhile == ""
        process.kill()
        process.wait()
    with held_place() as place:
        assert place == pod


def test_where_no_pod_is_named_there_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POD_VARIABLE, raising=False)
    with held_place() as one, held_place() as another:
        assert (one, another) == ("", "")
