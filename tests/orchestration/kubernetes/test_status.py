"""What the status of a function says."""

from __future__ import annotations

from orchestration.kubernetes.observed import function_of
from orchestration.kubernetes.status import condition
from orchestration.rollout import Phase
from tests.orchestration.kubernetes.test_plan import READY_WITHIN_S, Case, case

__all__ = ["case"]


def test_the_status_knows_of_older_revisions_that_never_took_over(case: Case) -> None:
    case.change(image="typo")
    case.settle()
    case.now += READY_WITHIN_S
    case.settle()
    case.change(image="slow")
    case.settle()
    case.change(image="app:2")
    case.settle()
    case.ready["hello-00004"] = 1
    case.settle()
    assert case.traffic == {"hello-00004": 100}
    assert [(failed.revision, failed.why) for failed in case.function.status.failed] == [
        ("hello-00002", "hello-00002: not ready within 120 s"),
        ("hello-00003", "hello-00003: hello-00004 was deployed before it had taken over"),
    ]
    for number in range(20):
        case.change(image=f"app:{number + 3}")
        case.settle()
        case.ready[f"hello-{number + 5:05}"] = 1
        case.settle()
    assert case.function.status.failed == (), "nothing is told of what is not kept"


def test_the_time_of_a_condition_is_when_it_turned(case: Case) -> None:
    before = {c.type: c.last_transition_time for c in case.function.status.conditions}
    case.now += 60
    case.ready["hello-00001"] = 0
    case.trouble["hello-00001"] = "CrashLoopBackOff"
    case.settle()
    after = {c.type: c.last_transition_time for c in case.function.status.conditions}
    assert after["Ready"] != before["Ready"]
    assert after["Progressing"] == before["Progressing"]


def test_what_people_are_told_of_the_newest_revision(case: Case) -> None:
    def phase() -> tuple[Phase, str]:
        known = function_of(case.function, tuple(case.records.values()))
        assert known is not None
        found = condition(case.function, case.observed, known, case.now)
        return found.phase, found.message

    assert phase() == (Phase.READY, "")
    case.change(image="typo")
    assert phase() == (Phase.PROGRESSING, "the controller has not looked at it yet")
    case.settle()
    assert phase() == (Phase.PROGRESSING, "hello-00002: 0 of 1 replicas are ready")
    case.trouble["hello-00002"] = "ErrImagePull: no"
    assert phase() == (Phase.PROGRESSING, "ErrImagePull: no")
    case.now += READY_WITHIN_S
    case.settle()
    assert phase() == (Phase.FAILED, "hello-00002: ErrImagePull: no")
