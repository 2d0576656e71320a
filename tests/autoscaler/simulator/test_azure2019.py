from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from autoscaler.simulator.azure2019 import SHORTEST_RUN_S, read
from autoscaler.simulator.trace import DEFAULT_MEMORY_MIB, Call, InvalidTrace, Workload
from tests.autoscaler.simulator.traces import DURATIONS, INVOCATIONS, MEMORY, azure2019


def calls_of(workload: Workload, seed: int = 1) -> list[Call]:
    source, calls = workload.source(seed), []
    while (at := source.next_at) < inf:
        calls.append((at, source.take()))
    return calls


def test_timers_fire_at_the_minutes_start_and_evenly_within_it(tmp_path: Path) -> None:
    trace = read(azure2019(tmp_path / "slice"))
    clock, web = trace.workloads
    assert (trace.length_s, trace.origin) == (180.0, "Azure Functions 2019, slice")
    assert calls_of(clock) == [(0.0, 0.1), (120.0, 0.1), (150.0, 0.1)]
    assert (clock.trigger, clock.memory_mib) == ("timer", DEFAULT_MEMORY_MIB)
    assert (web.trigger, web.memory_mib) == ("http", 170.5)


def test_other_calls_lie_anywhere_in_their_minute_the_same_for_a_seed(tmp_path: Path) -> None:
    web = read(azure2019(tmp_path)).workloads[1]
    calls = calls_of(web)
    assert calls == calls_of(web) != calls_of(web, seed=2)
    starts = [at for at, _ in calls]
    assert starts == sorted(starts)
    assert sum(60 <= at < 120 for at in starts) == 30 and sum(120 <= at < 180 for at in starts) == 5
    assert all(SHORTEST_RUN_S <= runs_s <= 2.0 for _, runs_s in calls)


def test_memory_of_the_original_set_is_by_app(tmp_path: Path) -> None:
    folder = azure2019(tmp_path, memory="HashOwner,HashApp,SampleCount,AverageAllocatedMb\no1,a1,5,64\n")
    assert [w.memory_mib for w in read(folder).workloads] == [64.0, DEFAULT_MEMORY_MIB]


def test_the_original_sets_file_names(tmp_path: Path) -> None:
    folder = azure2019(tmp_path)
    (folder / "invocations.csv").rename(folder / "invocations_per_function_md.anon.d01.csv")
    (folder / "durations.csv").rename(folder / "function_durations_percentiles.anon.d01.csv")
    (folder / "memory.csv").rename(folder / "app_memory_percentiles.anon.d01.csv")
    assert len(read(folder).workloads) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"invocations": ""}, "invocations.csv: empty; its first line should name the columns HashOwner"),
        ({"invocations": INVOCATIONS.replace("Trigger,", "")}, "line 1, column Trigger: there is no such column"),
        ({"invocations": INVOCATIONS.replace("481", "483")}, "line 1, column 483: minute 483 follows 480"),
        ({"invocations": INVOCATIONS.replace("30,5", "30,-5")}, "line 3, column 482: '-5' is not a count of calls"),
        ({"invocations": INVOCATIONS.replace("30,5", "30")}, "line 3: 6 fields, but the first line names 7 columns"),
        ({"invocations": INVOCATIONS.replace("http", "")}, "line 3, column Trigger: empty"),
        (
            {"invocations": INVOCATIONS.replace("web", "clock").replace("a2", "a1")},
            "line 3, column HashFunction: clock has a line",
        ),
        ({"invocations": INVOCATIONS.splitlines()[0]}, "names no function"),
        ({"invocations": "a,b\n\x00\n"}, "HashOwner: there is no such column; there are a, b"),
        (
            {"durations": DURATIONS.replace("web", "wob")},
            "line 3, column HashFunction: web has no line in the file of durations",
        ),
        ({"durations": DURATIONS.replace("20,40,80", "20,10,80")}, "line 3, column percentile_Average_50: percentiles"),
        ({"durations": DURATIONS.replace("20,40,80", "20,x,80")}, "line 3, column percentile_Average_50: 'x' is not a number"),
        (
            {"durations": DURATIONS.replace("20,40,80", "20,nan,80")},
            "line 3, column percentile_Average_50: 'nan' is not a number",
        ),
        ({"memory": MEMORY.replace("170.5", "lots")}, "memory.csv, line 2, column AverageAllocatedMb: 'lots'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidTrace) as raised:
        read(azure2019(tmp_path, **files))
    assert message in str(raised.value)


def test_a_folder_with_two_days_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrace, match=r"has no file invocations\*\.csv"):
        read(tmp_path)
    azure2019(tmp_path)
    (tmp_path / "invocations-2.csv").write_text(INVOCATIONS)
    with pytest.raises(InvalidTrace, match="one day in a folder"):
        read(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    azure2019(tmp_path)
    (tmp_path / "memory.csv").write_bytes(b"HashOwner,HashApp\n\xff\xfe")
    with pytest.raises(InvalidTrace, match="not UTF-8"):
        read(tmp_path)
