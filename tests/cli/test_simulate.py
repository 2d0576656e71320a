from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.autoscaler.simulator.traces import azure2019
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway


def test_a_table_of_all_policies(faas: Faas, project: Path) -> None:
    azure2019(project / "day")
    done = faas("simulate", "day", "--seeds", "2")
    assert done.code == 0
    head, *lines = done.out.splitlines()
    assert head.split()[:3] == ["POLICY", "CALLS", "COLD"]
    assert [line.split()[0] for line in lines] == ["pinnace", "pinnace-timers", "fixed", "knative", "openfaas"]
    assert {line.split()[1] for line in lines} == {"38"}


def test_chosen_policies_and_what_ifs(faas: Faas) -> None:
    done = faas(
        *("simulate", "burst:calls=40,run=1s", "--policy", "knative", "--what-if", "target=20,max=3", "--json"),
        *("--what-if", "fixed:concurrency=1", "--start-time", "10ms", "--concurrency", "10", "--seed", "7"),
    )
    told = json.loads(done.out)
    assert told["seeds"] == [7]
    knative, ours, fixed = told["policies"]
    assert [p["name"] for p in told["policies"]] == ["knative", "target=20,max=3", "fixed:concurrency=1"]
    assert (ours["settings"]["target"], ours["settings"]["maxReplicas"]) == (10, 3), "a replica takes 10 at most"
    assert ours["runs"][0]["largestReplicas"] == 3
    assert fixed["runs"][0]["largestReplicas"] == 20
    assert knative["runs"][0]["waitLongestS"] > ours["runs"][0]["waitP50S"]
    assert all("start 10ms" in p["words"] for p in told["policies"])


def load(calls: int, run_s: float) -> bytes:
    """Return the record of `calls` that come one each ten seconds to a function that is always there."""
    at = [second for n in range(calls) for second in (n * 10.0, n * 10.0 + 1, n * 10.0 + 2)]
    figures = {
        "at": [1_700_000_000 + second for second in at],
        "intervalS": [0.0, 1.0, 1.0] * calls,
        "concurrency": [1.0, run_s, 0.0] * calls,
        "arrivals": [1, 0, 0] * calls,
        "inFlight": [1, 0, 0] * calls,
        "queued": [0, 0, 0] * calls,
        "edge": [0, 0, 0] * calls,
    }
    return json.dumps({"since": 1_700_000_000, **figures}).encode()


def test_the_recent_load_of_a_function_and_what_if(gateway: Gateway, faas: Faas) -> None:
    labels = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "1h"}
    gateway.functions[("openfaas-fn", "hello")] = {
        "name": "hello",
        "labels": labels,
        "envVars": {"max_inflight": "4", "PASSWORD": "hunter2"},
        "availableReplicas": 1,
        "usage": {"totalMemoryBytes": 256 << 20},
    }
    gateway.canned["GET /api/v1/functions/hello/load"] = (200, {}, load(6, 0.5))
    told = json.loads(faas("simulate", "--from-function", "hello", "-w", "zero-duration=4s", "-p", "knative", "-j").out)
    assert told["trace"]["origin"] == "load on hello"
    deployed, knative, what_if = told["policies"]
    assert (deployed["name"], knative["name"], what_if["name"]) == ("deployed", "knative", "zero-duration=4s")
    assert (deployed["settings"]["zeroAfterS"], deployed["settings"]["target"]) == (3600, 4)
    assert [p["runs"][0]["coldStarts"] for p in (deployed, what_if)] == [1, 6]
    run = deployed["runs"][0]
    assert run["busySeconds"] == pytest.approx(3.0, abs=0.01)
    assert run["memoryGibSeconds"] == pytest.approx(run["replicaSeconds"] / 4)
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (None, 1, "keeps no record of calls"),
        (b'{"since": 1}', 2, "no call of hello is recorded"),
    ],
)
def test_a_function_without_a_record(gateway: Gateway, faas: Faas, answer: bytes | None, code: int, words: str) -> None:
    assert "there is no function hello" in faas("simulate", "--from-function", "hello").err
    gateway.functions[("openfaas-fn", "hello")] = {"name": "hello"}
    if answer is not None:
        gateway.canned["GET /api/v1/functions/hello/load"] = (200, {}, answer)
    done = faas("simulate", "--from-function", "hello")
    assert (done.code, done.out) == (code, "")
    assert words in done.err


def test_files_of_the_results(faas: Faas, project: Path) -> None:
    done = faas("simulate", "burst:calls=2", "-p", "fixed", "--csv", "out.csv", "--html", "out.html", "--png", "out.png")
    assert done.code == 0
    assert next(csv.DictReader((project / "out.csv").read_text().splitlines()))["cold_starts"] == "2"
    assert (project / "out.html").read_text().startswith("<!doctype html>")
    assert (project / "out.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to replay"),
        (["burst", "--from-function", "hello"], "say what to replay, one thing"),
        (["burst", "-w", "type=cpu,target=500"], "cpu cannot be simulated"),
        (["nowhere"], "nowhere: no such file or folder, and none of poisson"),
        (["burst:many=1"], "burst has no 'many'"),
        (["burst", "-p", "best"], "there is no policy 'best'; there are pinnace"),
        (["burst", "-w", "traget=1"], "There is no setting 'traget'; there are "),
        (["burst", "-w", "target=0"], "com.openfaas.scale.target='0'"),
        (["burst", "--start-time", "soon"], "'soon' is not a time"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(faas: Faas, arguments: list[str], words: str) -> None:
    done = faas("simulate", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_file_that_cannot_be_written(faas: Faas) -> None:
    done = faas("simulate", "burst:calls=1", "-p", "fixed", "--csv", "no/such/folder.csv")
    assert done.code == 1
    assert "no/such/folder.csv cannot be written: No such file" in done.err


def test_a_picture_without_matplotlib(faas: Faas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = faas("simulate", "burst:calls=1", "-p", "fixed", "--png", "out.png")
    assert done.code == 1
    assert "pip install 'pinnace[charts]'" in done.err
