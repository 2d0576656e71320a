"""A built function becomes one that answers: what is sent to the gateway, and waiting until its newest revision is ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.errors import CliError, GatewayRefused, GatewayUnreachable
from cli.stack import StackFunction

if TYPE_CHECKING:
    from cli.api import Gateway, Reply  # a client of HTTP, which builds of images do without

WAIT_S = 30.0
_POLL_S = 0.25
SCALE_LABELS = "com.openfaas.scale."


class Sent(NamedTuple):
    """Which deploy of the function it was, and the revision that it made; None and empty on a gateway that does not tell."""

    generation: int | None
    revision: str


class Readiness(NamedTuple):
    """What there is to be said of a ready function's traffic, or nothing; and whether its calls still move, step by step."""

    told: str = ""
    rolls_out: bool = False


class NotReady(CliError):
    """The new revision does not come up; the message says why, in one line."""


def request_of(function: StackFunction, image: str) -> dict[str, object]:
    """Return the FunctionDeployment that asks for `function` with `image`. Labels and annotations are always there."""
    content: dict[str, object] = {
        "service": function.name,
        "image": image,
        "labels": dict(function.labels),
        "annotations": dict(function.annotations),
    }
    optional: dict[str, object] = {
        "namespace": function.namespace,
        "envProcess": function.fprocess,
        "envVars": dict(function.environment),
        "constraints": list(function.constraints),
        "secrets": list(function.secrets),
        "limits": dict(function.limits),
        "requests": dict(function.requests),
        "readOnlyRootFilesystem": function.readonly_root_filesystem,
    }
    return content | {key: value for key, value in optional.items() if value}


def send(gateway: Gateway, function: StackFunction, image: str, *, update: bool = True, replace: bool = False) -> Sent:
    """Deploy: update the function, or create it when it is new.

    `update=False` only creates, `replace` removes it first. Raises GatewayRefused, with the function's name in the
    message, and its kin.
    """
    content = request_of(function, image)
    try:
        if replace:
            _remove(gateway, function)
        elif update:
            reply = gateway.call("PUT", "/system/functions", content=content, accept=(200, 201, 202, 404))
            if reply.status != 404:
                return _sent(reply)
        return _sent(gateway.call("POST", "/system/functions", content=content))
    except GatewayRefused as error:
        raise GatewayRefused(error.status, f"{function.name}: {error}") from None


def taken_away(gateway: Gateway, function: StackFunction) -> list[str]:
    """Return which scale labels, secrets, variables and limits the deployed function has and this deploy does not set."""
    try:
        query = {"namespace": function.namespace}
        reply = gateway.call("GET", f"/system/function/{function.name}", query=query, accept=(200, 404), timeout_s=10)
        status = reply.json() if reply.status == 200 else {}
    except CliError:
        return []  # the deploy itself will say what is wrong
    if not isinstance(status, dict):
        return []
    kinds = (
        ("label", [label for label in status.get("labels") or {} if label.startswith(SCALE_LABELS)], function.labels),
        ("secret", status.get("secrets") or [], function.secrets),
        ("env", status.get("envVars") or {}, function.environment),
        ("limit", status.get("limits") or {}, function.limits),
    )
    return [f"{kind} {name}" for kind, had, has in kinds for name in sorted(had) if name not in has]


def wait_ready(gateway: Gateway, function: StackFunction, generation: int | None, timeout_s: float) -> Readiness:
    """Return when the function's newest revision is ready.

    Raises NotReady with the reason when it failed, or is not ready after `timeout_s`; and what calls of a gateway raise.
    """
    deadline = time.monotonic() + timeout_s
    message = ""
    while (rest_s := deadline - time.monotonic()) > 0:
        wait_s = max(0.1, min(WAIT_S, rest_s))
        query = {"namespace": function.namespace, "wait": f"{wait_s:.1f}s", "generation": generation}
        asked = time.monotonic()
        reply = gateway.call(
            "GET", f"/api/v1/functions/{function.name}", query=query, accept=(200, 404, 405, 501), timeout_s=wait_s + 10
        )
        if reply.status == 404 and generation is not None:  # only a gateway that has this call tells generations
            raise NotReady(f"{function.name}: it was removed while it was deployed")
        if reply.status != 200:
            _wait_available(gateway, function, deadline)
            return Readiness()
        details = reply.json()
        phase, message = condition_of(details)
        if phase == "Ready" or (phase == "Progressing" and details.get("rollout")):
            return Readiness(message, bool(details.get("rollout")))  # a gradual rollout takes as long as was asked for
        crash = _crash_of_newest(details)
        if phase == "Failed" or crash is not None:
            raise NotReady(f"{function.name}: {_hinted(message or crash or 'it does not become ready')}")
        time.sleep(max(0.0, _POLL_S - (time.monotonic() - asked)))  # a gateway that does not hold the call is not hammered
    told = f": {message}{_still_importing(details)}" if message else ""
    raise NotReady(f"{function.name}: not ready after {timeout_s:g} s{told} (faas describe {function.name} shows more)")


def condition_of(details: Any) -> tuple[str, str]:
    """Return the phase and the message of what `GET /api/v1/functions/NAME` answered."""
    condition = details.get("condition") if isinstance(details, dict) else None
    if not isinstance(condition, dict):
        return "", ""
    return str(condition.get("phase") or ""), str(condition.get("message") or "")


def _crash_of_newest(details: Any) -> str | None:
    """Return why a replica of the newest revision ended, when it waits for its next try; None when none does."""
    revisions, replicas = details.get("revisions") or [], details.get("replicas") or []
    newest = revisions[-1].get("name") if revisions else None
    looping = [r for r in replicas if r.get("revision") == newest and r.get("state") == "CrashLoopBackOff"]
    return str(looping[0].get("reason") or "") if looping else None


def _hinted(message: str) -> str:
    """Return the message with what mends it, where nearly always the same does."""
    return f"{message}; packages are listed in requirements.txt" if "ModuleNotFoundError" in message else message


def _still_importing(details: Any) -> str:
    pending = any(replica.get("state") == "Pending" for replica in details.get("replicas") or [])
    return "; one is starting, perhaps its import takes long" if pending else ""


def why_broken(gateway: Gateway, name: str, namespace: str) -> str:
    """Return why the function's replicas end by themselves; empty where none does, or where only a login would tell."""
    try:
        reply = gateway.call("GET", f"/api/v1/functions/{name}", query={"namespace": namespace}, timeout_s=10)
        replicas = reply.json().get("replicas") or []
    except CliError:
        return ""
    return next((str(r["reason"]) for r in replicas if r.get("state") == "CrashLoopBackOff" and r.get("reason")), "")


def _wait_available(gateway: Gateway, function: StackFunction, deadline: float) -> None:
    """Wait on a gateway that has only OpenFaaS's own API: until a replica is available."""
    while time.monotonic() < deadline:
        query = {"namespace": function.namespace}
        try:
            reply = gateway.call("GET", f"/system/function/{function.name}", query=query, accept=(200, 404), timeout_s=10)
        except GatewayUnreachable:
            reply = None
        if reply is not None and reply.status == 200 and reply.json().get("availableReplicas"):
            return
        time.sleep(_POLL_S)
    raise NotReady(f"{function.name}: no replica is available yet; faas describe {function.name} and faas logs {function.name}")


def _remove(gateway: Gateway, function: StackFunction) -> None:
    content = {"functionName": function.name, **({"namespace": function.namespace} if function.namespace else {})}
    query = {"namespace": function.namespace}
    gateway.call("DELETE", "/system/functions", query=query, content=content, accept=(200, 201, 202, 204, 404))


def _sent(reply: Reply) -> Sent:
    try:
        value = reply.json()
    except GatewayRefused:
        return Sent(None, "")
    told = value if isinstance(value, dict) else {}
    generation = told.get("generation")
    return Sent(generation if isinstance(generation, int) else None, str(told.get("revision") or ""))
