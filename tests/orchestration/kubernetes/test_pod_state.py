"""From a pod to a replica, by a table of what kubelets write."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.kubernetes.pod_state import replica_of
from orchestration.replica import ReplicaState

READY = [{"type": "Ready", "status": "True"}]
UNREADY = [{"type": "Ready", "status": "False"}]
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def pod(status: dict[str, Any], *, deleted: bool = False) -> dict[str, Any]:
    labels = {"pinnace.dev/function": "hello", "pinnace.dev/revision": "hello-00001"}
    metadata = {"name": "hello-00001-x", "namespace": "team", "uid": "u", "labels": labels}
    return {"metadata": metadata | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}), "status": status}


def container(state: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"name": "function", "state": state, "containerID": "c1"} | more]


CASES: dict[str, tuple[dict[str, Any], ReplicaState, str]] = {
    "just made": ({"phase": "Pending"}, ReplicaState.PENDING, ""),
    "not scheduled": (
        {
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: too little cpu."}
            ],
        },
        ReplicaState.PENDING,
        "Unschedulable: 0/1 nodes: too little cpu.",
    ),
    "being created": (
        {"phase": "Pending", "containerStatuses": container({"waiting": {"reason": "ContainerCreating"}})},
        ReplicaState.PENDING,
        "",
    ),
    "no image": (
        {
            "phase": "Pending",
            "containerStatuses": container({"waiting": {"reason": "ErrImagePull", "message": "app:1:\n  not found"}}),
        },
        ReplicaState.CRASH_LOOP,
        "ErrImagePull: app:1: not found",
    ),
    "crash loop": (
        {
            "phase": "Running",
            "containerStatuses": container(
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s pod=x_y(z)"}},
                lastState={"terminated": {"exitCode": 3, "reason": "Error"}},
            ),
        },
        ReplicaState.CRASH_LOOP,
        "CrashLoopBackOff: back-off 10s: exited with code 3",
    ),
    "out of memory": (
        {"phase": "Running", "containerStatuses": container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})},
        ReplicaState.CRASH_LOOP,
        "killed: it used more memory than its limit",
    ),
    "runs, not ready": (
        {"phase": "Running", "podIP": "10.0.0.1", "conditions": UNREADY, "containerStatuses": container(RUNNING)},
        ReplicaState.PENDING,
        "",
    ),
    "ready": (
        {"phase": "Running", "podIP": "10.0.0.1", "conditions": READY, "containerStatuses": container(RUNNING)},
        ReplicaState.RUNNING,
        "",
    ),
    "evicted": ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, ReplicaState.STOPPED, "Evicted: disk"),
}


@pytest.mark.parametrize("case", CASES)
def test_states(case: str) -> None:
    status, state, reason = CASES[case]
    replica = replica_of(pod(status))
    assert (replica.state, replica.reason) == (state, reason)


def test_what_stops_drains_however_ready_it_is() -> None:
    status = CASES["ready"][0]
    assert replica_of(pod(status, deleted=True)).state is ReplicaState.DRAINING


def test_our_own_probe_is_enough() -> None:
    status = CASES["runs, not ready"][0]
    assert replica_of(pod(status), probed=True).state is ReplicaState.RUNNING


def test_a_long_reason_is_cut_to_one_line() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "x" * 1000}}
    reason = replica_of(pod({"containerStatuses": container(waiting)})).reason
    assert len(reason) == 300 and reason.endswith("…")
