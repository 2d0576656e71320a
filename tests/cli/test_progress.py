from __future__ import annotations

import io

from cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_quick_shows_nothing() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock)
    progress.stage("hello", "building")
    clock.now = 0.49
    progress.draw()
    progress.done("hello")
    clock.now = 5
    progress.draw()
    assert stream.getvalue() == ""


def test_elsewhere_than_on_a_terminal_each_slow_stage_is_one_line() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock)
    progress.stage("hello", "building")
    for clock.now in (0.6, 0.7, 0.8):
        progress.draw()
    progress.stage("hello", "deploying")
    progress.draw()
    progress.stage("hello", "starting")
    clock.now = 1.5
    progress.draw()
    assert stream.getvalue() == "hello: building ...\nhello: starting ...\n"


def test_a_terminal_has_one_line_that_is_wiped_at_the_end() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream, clock)
    progress.stage("hello", "building")
    progress.stage("other", "building")
    clock.now = 2.0
    progress.draw()
    assert "hello: building 2.0 s (and 1 more)" in stream.getvalue()
    assert "\n" not in stream.getvalue()
    progress.say("done")
    assert stream.getvalue().endswith("\rdone\n")


def test_the_ticker_draws_and_ends_with_the_block() -> None:
    stream = Terminal()
    with Progress(stream, quiet_s=0.0) as progress:
        progress.stage("hello", "building")
        progress._ended.wait(0.01)
        progress.draw()
    assert not progress._ticker.is_alive()
    assert stream.getvalue().endswith("\r")
