"""What `faas deploy --gradual TIME --wait` makes of what a gateway tells of the rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from cli.api import Gateway, Reply
from cli.errors import GatewayUnreachable, Misuse
from cli.rollouts import NotPromoted, duration_s, follow
from cli.stack import StackFunction

HELLO = StackFunction("hello", annotations={"com.pinnace.rollout.duration": "10m"})
NEW = "hello-00002"


def details(percent: int, *, rolls: bool, latest: bool = False, message: str = "", failure: str = "") -> dict[str, Any]:
    old = {"name": "hello-00001", "percent": 100 - percent, "latest": not latest}
    return {
        "condition": {"phase": "Progressing" if rolls else "Ready", "message": message},
        "rollout": {"revision": NEW, "percent": percent} if rolls else None,
        "revisions": [old, {"name": NEW, "percent": percent, "latest": latest, "failure": failure}],
    }


FIVE = details(5, rolls=True, message="5 % (step 1 of 2)")
HALF = details(50, rolls=True, message="50 % (step 2 of 2)")
DONE = details(100, rolls=False, latest=True)


class Answers:
    """A gateway that answers one thing after the other, and the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | int | None) -> None:
        self._answers: Iterator[dict[str, Any] | int | None] = iter(answers)
        self._last = answers[-1]
        self.told: list[str] = []

    def call(self, *_: object, **__: object) -> Reply:
        self._last = next(self._answers, self._last)
        if self._last is None:
            raise GatewayUnreachable("no gateway answers")
        if isinstance(self._last, int):
            return Reply(self._last, {}, b"")
        return Reply(200, {}, json.dumps(self._last).encode())

    def follow(self, limit_s: float = 60.0) -> list[str]:
        follow(cast("Gateway", self), HELLO, NEW, limit_s, self.told.append, every_s=0)
        return self.told


def test_each_step_is_told_once() -> None:
    assert Answers(FIVE, FIVE, HALF, HALF, DONE).follow() == ["5 % (step 1 of 2)", "50 % (step 2 of 2)"]


def test_what_has_all_calls_already_is_not_waited_for() -> None:
    assert Answers(DONE).follow() == []


def test_a_gateway_that_is_away_is_waited_for_and_told_of_once() -> None:
    told = Answers(FIVE, None, None, FIVE, HALF, DONE).follow()
    assert told[1] == "no gateway answers; the rollout is looked for until it is back"
    assert len(told) == 4


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (details(0, rolls=False, failure=f"{NEW}: given up at 5 % of the calls: 3 of 3 calls failed"), "given up at 5 %"),
        (details(0, rolls=False), f"the rollout of {NEW} was ended before it had all calls: 100 % to hello-00001"),
        (details(0, rolls=False, latest=True, message="traffic is set by hand"), "traffic is set by hand"),
        (404, "it was removed before its rollout had ended"),
    ],
)
def test_what_does_not_get_all_calls_has_failed(answer: dict[str, Any] | int, why: str) -> None:
    with pytest.raises(NotPromoted, match=why) as raised:
        Answers(FIVE, answer).follow()
    assert raised.value.exit_code == 1


def test_it_is_not_followed_for_ever() -> None:
    with pytest.raises(NotPromoted, match=r"has not ended after .*: 5 % \(step 1 of 2\); it goes on"):
        Answers(FIVE).follow(limit_s=0.0)


def test_how_long_a_rollout_takes_is_read_from_what_is_deployed() -> None:
    assert duration_s(HELLO) == 600
    assert duration_s(StackFunction("hello")) == 0
    with pytest.raises(Misuse, match=r"hello: .*rollout"):
        duration_s(StackFunction("hello", annotations={"com.pinnace.rollout.duration": "soon"}))
