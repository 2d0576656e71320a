"""From a pod to the domain's replica, as a pure function: in which state it is, and why in the pod's own words.

| the pod | the replica |
|---|---|
| has a deletion timestamp, or is ready and marked to go (`drains`) | Draining |
| has ended (evicted, preempted, a node that went) | Stopped |
| its container waits and has failed before, or its image cannot be pulled, or its configuration is wrong | CrashLoopBackOff |
| its container runs, and it is ready by the kubelet's word or by our own probe | Running |
| anything else | Pending |
"""

from __future__ import annotations

import datetime
import re
from typing import Any, Final

from orchestration.kubernetes.names import CONTAINER, DRAINING, FUNCTION_LABEL, PORT, REVISION_LABEL
from orchestration.kubernetes.resource import Manifest
from orchestration.replica import Endpoint, Replica, ReplicaState

LONGEST_REASON: Final = 300

_STUCK: Final = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


def read_time(text: str | None) -> float | None:
    """Return Unix seconds of a Kubernetes timestamp."""
    return datetime.datetime.fromisoformat(text).timestamp() if text else None


def is_ready(pod: Manifest) -> bool:
    """Whether the kubelet says that the pod is ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or ())


def container_of(pod: Manifest) -> Manifest:
    """Return the status of the function's container; empty before the kubelet has any."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((status for status in statuses if status["name"] == CONTAINER), {})


def running_container(pod: Manifest) -> str | None:
    """Return the id of the function's container while it runs and the pod has an address."""
    container = container_of(pod)
    if not pod.get("status", {}).get("podIP") or "running" not in (container.get("state") or {}):
        return None
    return str(container.get("containerID") or pod["metadata"]["uid"])


def replica_of(pod: Manifest, *, probed: bool = False, ready_at: float | None = None) -> Replica:
    """Return the replica that a pod is. `probed` says that it answered our own probe, `ready_at` since when it is ready."""
    metadata, status = pod["metadata"], pod.get("status", {})
    container = container_of(pod)
    state, reason = _state(pod, container, probed)
    running = (container.get("state") or {}).get("running") or {}
    address = status.get("podIP")
    return Replica(
        id=metadata["name"],
        namespace=metadata["namespace"],
        function=metadata["labels"][FUNCTION_LABEL],
        revision=metadata["labels"].get(REVISION_LABEL, ""),
        state=state,
        endpoint=Endpoint(host=address, port=PORT) if address else None,
        reason=reason,
        restarts=container.get("restartCount", 0),
        last_end=_end((container.get("lastState") or {}).get("terminated")),
        started_at=read_time(running.get("startedAt")),
        ready_at=ready_at if state is ReplicaState.RUNNING else None,
    )


def _state(pod: Manifest, container: Manifest, probed: bool) -> tuple[ReplicaState, str]:
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return ReplicaState.DRAINING, ""
    if status.get("phase") in ("Failed", "Succeeded"):
        return ReplicaState.STOPPED, _line(status.get("reason"), status.get("message"))
    state = container.get("state") or {}
    ended = _end((container.get("lastState") or {}).get("terminated"))
    if waiting := state.get("waiting"):
        if waiting.get("reason") in _STUCK:
            return ReplicaState.CRASH_LOOP, _line(waiting["reason"], _plain(waiting.get("message")), ended)
        return ReplicaState.PENDING, _line(_not_scheduled(status), ended)
    if terminated := state.get("terminated"):
        return ReplicaState.CRASH_LOOP, _line(_end(terminated))
    if "running" in state and status.get("podIP") and (is_ready(pod) or probed):
        marked = DRAINING in (pod["metadata"].get("annotations") or {})
        return ReplicaState.DRAINING if marked else ReplicaState.RUNNING, ""
    return ReplicaState.PENDING, _line(_not_scheduled(status))


def _not_scheduled(status: Manifest) -> str:
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _line(condition.get("reason"), condition.get("message"))
    return ""


def _end(terminated: Any) -> str:
    """Say in words how a container ended."""
    if not terminated:
        return ""
    if terminated.get("reason") == "OOMKilled":
        return "killed: it used more memory than its limit"
    if signal := terminated.get("signal"):
        return f"ended by signal {signal}"
    said = (terminated.get("message") or "").strip().rpartition("\n")[2]
    return f"exited with code {terminated.get('exitCode', 0)}" + (f": {said}" if said else "")


def _plain(message: str | None) -> str:
    """Take out of a kubelet's message what repeats the pod's name and uid."""
    return re.sub(r" pod=\S+", "", message or "")


def _line(*parts: str | None) -> str:
    text = ": ".join(part for part in parts if part)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
