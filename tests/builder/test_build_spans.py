"""The spans of a build."""

from __future__ import annotations

from builder.build_spans import BuildSpans
from builder.events import BuildEvent
from telemetry.current import Current, current


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def test_a_step_lasts_from_its_line_to_the_next() -> None:
    clock = Clock()
    token = current.set(Current("a" * 32, "b" * 16))
    spans = BuildSpans(clock)
    current.reset(token)
    clock.now = 5
    spans.reported(BuildEvent(["waiting for other builds to finish"], "", "in_progress"))
    clock.now = 10
    spans.started()
    for now, line in ((20, "one"), (40, "two")):
        clock.now = now
        spans.reported(BuildEvent([line], "hello:latest", "in_progress"))
    clock.now = 90
    whole, queue, one, two = spans.ended("success")
    assert (whole.parent, whole.trace, whole.error) == ("b" * 16, "a" * 32, "")
    assert whole.attributes == {"pinnace.build.image": "hello:latest", "pinnace.build.status": "success"}
    assert [(s.start_ns, s.end_ns) for s in (whole, queue, one, two)] == [(0, 90), (0, 10), (20, 40), (40, 90)]
    assert {s.parent for s in (queue, one, two)} == {whole.span}
    assert two.attributes == {"pinnace.build.step": "two"}


def test_a_build_that_failed_says_why_and_one_that_never_ran_has_no_steps() -> None:
    clock = Clock()
    spans = BuildSpans(clock)
    spans.reported(BuildEvent([], "hello", "failed", "no handler"))
    (whole,) = spans.ended("failed")
    assert (whole.error, whole.parent) == ("no handler", "")
    assert BuildSpans(clock).ended("cancelled")[0].error == "cancelled"
