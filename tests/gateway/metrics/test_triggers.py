from __future__ import annotations

from gateway.callbacks.callbacks import Fate
from gateway.cloudevents.router import Counts as EventCounts
from gateway.metrics.triggers import Callbacks, Triggers
from gateway.timers.timers import Counts as TimerCounts
from tests.gateway.metrics.reading import samples


def test_what_was_counted_is_told() -> None:
    timers = TimerCounts(fired=1, missed=2, overlapping=3, failed=4)
    told = samples(Triggers(timers, EventCounts(accepted=10, unmatched=3, delivered=9)))
    assert told == {
        ("pinnace_timer_runs_total", "fired"): 1,
        ("pinnace_timer_runs_total", "missed"): 2,
        ("pinnace_timer_runs_total", "overlapping"): 3,
        ("pinnace_timer_runs_total", "failed"): 4,
        ("pinnace_events_total", "matched"): 7,
        ("pinnace_events_total", "unmatched"): 3,
        ("pinnace_event_calls_total",): 9,
    }


def test_attempts_to_send_callbacks_are_told_by_their_fate() -> None:
    told = samples(Callbacks({Fate.SENT: 5, Fate.RETRIED: 6, Fate.FAILED: 7, Fate.REFUSED: 8}))
    assert told == {
        ("pinnace_callbacks_total", "sent"): 5,
        ("pinnace_callbacks_total", "retried"): 6,
        ("pinnace_callbacks_total", "failed"): 7,
        ("pinnace_callbacks_total", "refused"): 8,
    }
