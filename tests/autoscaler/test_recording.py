from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.recording import CHUNK_SAMPLES, Recording
from orchestration.load import LoadSample
from orchestration.names import FunctionId

HELLO = FunctionId("openfaas-fn", "hello")


class Wall:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def sample(function: FunctionId = HELLO, edge: str = "edge", **figures: float) -> LoadSample:
    told = {"at": 5.0, "interval_s": 1.0, "concurrency": 0.0, "arrivals": 0, "in_flight": 0, "queued": 0, **figures}
    return LoadSample(edge=edge, namespace=function.namespace, function=function.name, revision="r", **told)  # type: ignore[arg-type]


def test_what_edges_told_is_there_again() -> None:
    wall = Wall()
    recording = Recording(wall)
    recording.sample(sample(interval_s=20.0, arrivals=1, queued=1))
    wall.now += 1.0625
    recording.sample(sample(interval_s=1.0625, concurrency=1.5, arrivals=3, in_flight=2))
    recording.sample(sample(edge="other", concurrency=0.25, arrivals=1))
    history = recording.history(HELLO)
    assert history.since == 1_700_000_000.0 - 20.0
    assert history.at == (1_700_000_000.0, 1_700_000_001.062, 1_700_000_001.062)
    assert history.interval_s == (20.0, 1.062, 1.0)
    assert [round(value, 2) for value in history.concurrency] == [0.0, 1.5, 0.25]
    assert (history.arrivals, history.in_flight, history.queued) == ((1, 3, 1), (0, 2, 0), (1, 0, 0))
    assert history.edge == (0, 0, 1)


def test_a_function_that_was_never_called_has_no_history() -> None:
    wall = Wall()
    assert Recording(wall).history(HELLO).at == ()
    assert Recording(wall).history(HELLO).since == wall.now


def test_a_function_keeps_its_newest_samples() -> None:
    wall = Wall()
    recording = Recording(wall, function_bytes=2 * CHUNK_SAMPLES * 28)
    for n in range(5 * CHUNK_SAMPLES):
        wall.now += 1
        recording.sample(sample(arrivals=n))
    history = recording.history(HELLO)
    assert history.arrivals[-1] == 5 * CHUNK_SAMPLES - 1
    assert CHUNK_SAMPLES < len(history.at) <= 2 * CHUNK_SAMPLES
    assert history.arrivals == tuple(range(history.arrivals[0], history.arrivals[-1] + 1))
    assert history.since == history.at[0] - 1, "from the last that is missing on"
    assert recording.size_bytes == len(history.at) * 28


def test_all_functions_together_have_a_bound() -> None:
    recording = Recording(Wall(), total_bytes=10 * CHUNK_SAMPLES * 28)
    for n in range(30):
        for _ in range(CHUNK_SAMPLES):
            recording.sample(sample(FunctionId("openfaas-fn", f"f{n}")))
    assert recording.size_bytes <= 10 * CHUNK_SAMPLES * 28
    assert not recording.history(FunctionId("openfaas-fn", "f0")).at, "the oldest went first"
    assert recording.history(FunctionId("openfaas-fn", "f29")).at


def test_a_removed_function_is_forgotten() -> None:
    recording = Recording(Wall())
    recording.sample(sample())
    recording.sample(sample(FunctionId("openfaas-fn", "other")))
    recording.forget(HELLO)
    recording.forget(HELLO)
    assert not recording.history(HELLO).at
    assert recording.size_bytes == 28


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    wall = Wall()
    recording = Recording(wall)
    recording.sample(sample())
    wall.now -= 3600
    recording.sample(sample())
    assert recording.history(HELLO).at == (1_700_000_000.0, 1_699_996_400.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e10), st.integers(0, 1 << 40)), max_size=200))
def test_sizes_add_up_whatever_is_told(told: list[tuple[int, float, int]]) -> None:
    recording = Recording(Wall(), function_bytes=0, total_bytes=40 * 28)
    for function, interval_s, arrivals in told:
        recording.sample(sample(FunctionId("n", str(function)), interval_s=interval_s, arrivals=arrivals))
    kept = [recording.history(FunctionId("n", str(function))) for function in range(4)]
    assert recording.size_bytes == 28 * sum(len(history.at) for history in kept)
