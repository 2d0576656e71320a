"""A gradual rollout followed to its end, as a pipeline needs it: each step is told, and it fails when the rollout does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cli.deployment import condition_of
from cli.errors import CliError, GatewayUnreachable, Misuse
from cli.stack import StackFunction
from cli.tables import seconds_text

if TYPE_CHECKING:
    from cli.api import Gateway  # a client of HTTP, which builds of images do without

EVERY_S = 1.0
TIMES = 2
"""For how many times its duration a rollout is followed: a step begins again when the platform does."""


class NotPromoted(CliError):
    """The new revision does not get all calls; the message says why, in one line."""


def duration_s(function: StackFunction) -> float:
    """Return how long the function's rollouts take, in seconds; 0: all calls move at once. Raises Misuse."""
    from orchestration.gradual import gradual_settings
    from orchestration.settings import InvalidSetting
    from orchestration.spec import FunctionSpec

    try:
        spec = FunctionSpec(service=function.name, image="", labels=function.labels, annotations=function.annotations)
        return gradual_settings(spec).duration_s
    except InvalidSetting as error:
        raise Misuse(f"{function.name}: {error}") from None


def follow(
    gateway: Gateway,
    function: StackFunction,
    revision: str,
    limit_s: float,
    told: Callable[[str], None],
    every_s: float = EVERY_S,
) -> None:
    """Return when all calls that follow the newest revision come to `revision`; `told` gets a line for each step.

    A gateway that is away for a while is waited for. Raises NotPromoted when the rollout was given up, ended by hand, or has
    not ended after `limit_s`; and what calls of a gateway raise.
    """
    deadline = time.monotonic() + limit_s
    said = ""
    while True:
        line = ""
        try:
            reply = gateway.call(
                "GET",
                f"/api/v1/functions/{function.name}",
                query={"namespace": function.namespace},
                accept=(200, 404),
                timeout_s=10,
            )
        except GatewayUnreachable as error:
            line = f"{error}; the rollout is looked for until it is back"
        else:
            if reply.status == 404:
                raise NotPromoted(f"{function.name}: it was removed before its rollout had ended")
            details = reply.json()
            if _promoted(function.name, details, revision):
                return
            line = condition_of(details)[1] or f"{revision} gets {details['rollout']['percent']} % of the calls that move"
        if line and line != said:
            told(line)
            said = line
        if time.monotonic() >= deadline:
            raise NotPromoted(
                f"{function.name}: its rollout has not ended after {seconds_text(limit_s)}: {said};"
                f" it goes on (faas promote {function.name} or faas rollback {function.name} ends it)"
            )
        time.sleep(every_s)


def _promoted(name: str, details: Mapping[str, Any], revision: str) -> bool:
    """Whether the revision has all calls; False while its rollout goes on. Raises NotPromoted."""
    rollout = details.get("rollout")
    if rollout and rollout.get("revision") == revision:
        return False
    revisions = {entry.get("name"): entry for entry in details.get("revisions") or ()}
    mine = revisions.get(revision) or {}
    if why := mine.get("failure"):
        raise NotPromoted(f"{name}: {why}")
    if mine.get("latest") and mine.get("percent"):
        return True
    if mine.get("latest"):  # traffic is set by hand
        raise NotPromoted(f"{name}: {condition_of(details)[1] or f'{revision} gets no calls'}")
    shares = ", ".join(f"{entry['percent']} % to {other}" for other, entry in revisions.items() if entry.get("percent"))
    raise NotPromoted(
        f"{name}: the rollout of {revision} was ended before it had all calls: {shares or 'none to any revision'}"
    )
