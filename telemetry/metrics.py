"""Every metric that the platform serves under names of its own choosing or OpenFaaS's: what is rendered, and documented.

Label sets are bounded by what was deployed (functions), by tables in the code (rules, states, path templates) and by the
machine (edges): no label ever holds what a client sent.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """`labels` in the order in which they are written; `help` is one sentence. `origin` says whose name it is."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    origin: Literal["OpenFaaS", "OpenFaaS Pro", "Pinnace"] = "Pinnace"


FUNCTION: Final = ("function_name",)

# OpenFaaS's names, types and labels.
INVOCATIONS: Final = Metric(
    "gateway_function_invocation_total", "counter", ("function_name", "code"), "Calls that ended.", "OpenFaaS"
)
STARTED: Final = Metric("gateway_function_invocation_started", "counter", FUNCTION, "Calls that came.", "OpenFaaS")
SECONDS: Final = Metric(
    "gateway_functions_seconds",
    "histogram",
    ("function_name", "code"),
    "From a call's head to the end of its answer.",
    "OpenFaaS",
)
SERVICE_COUNT: Final = Metric("gateway_service_count", "gauge", FUNCTION, "Replicas that the function should have.", "OpenFaaS")
IN_FLIGHT: Final = Metric(
    "gateway_function_invocation_inflight", "gauge", FUNCTION, "Calls that came and have not ended.", "OpenFaaS Pro"
)
READY_COUNT: Final = Metric("gateway_service_ready_count", "gauge", FUNCTION, "Replicas that are ready.", "OpenFaaS Pro")
SERVICE_MIN: Final = Metric("gateway_service_min", "gauge", FUNCTION, "Fewest replicas while not at zero.", "OpenFaaS Pro")
TARGET_LOAD: Final = Metric(
    "gateway_service_target_load",
    "gauge",
    ("function_name", "scaling_type"),
    "Load that one replica takes in full, in the unit of the scaling type.",
    "OpenFaaS Pro",
)
HTTP_REQUESTS: Final = Metric(
    "http_requests_total", "counter", ("method", "path", "status"), "Requests to the control API.", "OpenFaaS Pro"
)
HTTP_SECONDS: Final = Metric(
    "http_request_duration_seconds",
    "histogram",
    ("method", "path", "status"),
    "How long requests to the control API took.",
    "OpenFaaS Pro",
)
PROVIDER_REQUESTS: Final = Metric(
    "provider_http_requests_total",
    "counter",
    ("code", "method", "path"),
    "Requests to /system: the platform is gateway and provider in one.",
    "OpenFaaS",
)
PROVIDER_SECONDS: Final = Metric(
    "provider_http_request_duration_seconds",
    "histogram",
    ("code", "method", "path"),
    "How long requests to /system took.",
    "OpenFaaS",
)
CPU: Final = Metric(
    "pod_cpu_usage_seconds_total",
    "counter",
    ("function_name", "namespace"),
    "CPU time of the function's live replicas.",
    "OpenFaaS Pro",
)
MEMORY: Final = Metric(
    "pod_memory_working_set_bytes",
    "gauge",
    ("function_name", "namespace"),
    "Memory of the function's live replicas.",
    "OpenFaaS Pro",
)

# Ours: calls.
AT_REPLICAS: Final = Metric("pinnace_calls_in_flight", "gauge", FUNCTION, "Calls at a replica.")
QUEUED: Final = Metric("pinnace_queue_length", "gauge", FUNCTION, "Calls that wait for a replica.")
OLDEST_WAIT: Final = Metric(
    "pinnace_queue_oldest_wait_seconds", "gauge", FUNCTION, "How long the call at the queue's front has waited."
)
QUEUE_WAIT: Final = Metric(
    "pinnace_queue_wait_seconds", "histogram", FUNCTION, "How long calls waited that found no free slot and got one."
)
COLD_CALLS: Final = Metric(
    "pinnace_cold_starts_total", "counter", FUNCTION, "Calls that waited because no replica was there, and got one."
)
COLD_FIRST_BYTE: Final = Metric(
    "pinnace_cold_start_first_byte_seconds",
    "histogram",
    FUNCTION,
    "From the head of a call that waited because no replica was there to the first byte of its answer.",
)

# Ours: replicas and scaling.
REPLICAS: Final = Metric("pinnace_replicas", "gauge", ("function_name", "state"), "Replicas of all revisions, by state.")
START_SECONDS: Final = Metric(
    "pinnace_replica_start_seconds",
    "histogram",
    FUNCTION,
    "How long replicas took to start, from the start of a process until it could take calls.",
)
PHASE_SECONDS: Final = Metric(
    "pinnace_replica_start_phase_seconds",
    "histogram",
    ("kind", "phase"),
    "What the phases of starts took, by what the process is made of: a zygote's fork, a stem's fork, or fork and exec.",
)
START_FAILURES: Final = Metric(
    "pinnace_replica_start_failures_total", "counter", ("kind",), "Starts of replicas that came to nothing."
)
RESTARTS: Final = Metric(
    "pinnace_replica_restarts_total", "counter", FUNCTION, "Processes of replicas that ended by themselves."
)
SERVICE_MAX: Final = Metric("pinnace_service_max", "gauge", FUNCTION, "Most replicas.")
LIMITED: Final = Metric(
    "pinnace_scale_limit_reached", "gauge", FUNCTION, "1 while the load asks for more replicas than the most allowed."
)
DECISIONS: Final = Metric(
    "pinnace_scaler_decisions_total",
    "counter",
    ("function_name", "rule"),
    "Decisions that changed a replica count, by the rule that gave it its value.",
)
REVISION_CALLS: Final = Metric(
    "pinnace_revision_invocations_total",
    "counter",
    ("function_name", "revision", "code"),
    "Calls that ended, of functions where calls can come to several revisions.",
)
REVISION_TRAFFIC: Final = Metric(
    "pinnace_revision_traffic_percent",
    "gauge",
    ("function_name", "revision"),
    "Share of the calls that goes to the revision, where calls can come to several.",
)
ROLLOUT_PERCENT: Final = Metric(
    "pinnace_rollout_percent", "gauge", FUNCTION, "How much of what moves has moved, in a gradual rollout that is under way."
)
ROLLOUTS: Final = Metric(
    "pinnace_rollouts_total", "counter", ("function_name", "outcome"), "Gradual rollouts that ended: finished or aborted."
)
FUNCTIONS: Final = Metric("pinnace_functions", "gauge", (), "Functions that are deployed.")

# Ours: asynchronous calls. `kind` is call, or callback for what is sent about one.
OF_QUEUE: Final = ("function_name", "kind")
ASYNC_WAITING: Final = Metric(
    "pinnace_async_waiting", "gauge", OF_QUEUE, "Asynchronous calls that wait, also those that are not due yet."
)
ASYNC_RUNNING: Final = Metric("pinnace_async_running", "gauge", OF_QUEUE, "Asynchronous calls that are being carried out.")
ASYNC_DEAD: Final = Metric(
    "pinnace_async_dead", "gauge", OF_QUEUE, "Asynchronous calls that were given up and can be replayed."
)
ASYNC_LATE: Final = Metric(
    "pinnace_async_late_seconds", "gauge", OF_QUEUE, "For how long the oldest waiting asynchronous call has been due."
)
ASYNC_ATTEMPTS: Final = Metric(
    "pinnace_async_attempts_total",
    "counter",
    (*OF_QUEUE, "outcome"),
    "Attempts at asynchronous calls: succeeded, to be made again, or the last one of a call that is dead.",
)

# Ours: what calls functions by itself, and who is told of it.
TIMER_RUNS: Final = Metric(
    "pinnace_timer_runs_total",
    "counter",
    ("fate",),
    "Runs of timers: fired; left out as missed or as overlapping; or failed to be submitted, and tried again.",
)
EVENTS: Final = Metric(
    "pinnace_events_total", "counter", ("fate",), "CloudEvents that were accepted: matched by a function's filter, or by none."
)
EVENT_CALLS: Final = Metric("pinnace_event_calls_total", "counter", (), "Asynchronous calls that were made of CloudEvents.")
CALLBACKS: Final = Metric(
    "pinnace_callbacks_total",
    "counter",
    ("fate",),
    "Attempts to send callbacks: sent, to be tried again (retried), given up (failed), or refused for their address.",
)

# Ours: the platform.
BUILD_SECONDS: Final = Metric(
    "pinnace_build_seconds", "histogram", ("status",), "How long builds and pulls took, from when they were asked for."
)
CONNECTIONS: Final = Metric("pinnace_edge_connections", "gauge", ("edge",), "Client connections that are open.")
ACCEPTED: Final = Metric(
    "pinnace_edge_connections_accepted_total", "counter", ("edge",), "Client connections that were accepted."
)
TURNED_AWAY: Final = Metric(
    "pinnace_edge_connections_refused_total", "counter", ("edge",), "Client connections beyond the most allowed."
)
REFUSED: Final = Metric(
    "pinnace_edge_requests_refused_total",
    "counter",
    ("edge", "code"),
    "Requests that were no function's: malformed, too large, to a name that nobody has.",
)
TRACES: Final = Metric(
    "pinnace_edge_traces_total",
    "counter",
    ("edge", "fate"),
    "Calls that were traced: handed on to be exported, or dropped as too many waited.",
)
SPANS: Final = Metric(
    "pinnace_spans_total",
    "counter",
    ("fate",),
    "Spans by what became of them: exported, dropped as too many waited, or failed to reach the collector.",
)
PROCESS_CPU: Final = Metric(
    "pinnace_process_cpu_seconds_total", "counter", ("process",), "CPU time of the platform's processes."
)
PROCESS_MEMORY: Final = Metric(
    "pinnace_process_resident_memory_bytes", "gauge", ("process",), "Memory of the platform's processes."
)
PROCESS_FILES: Final = Metric(
    "pinnace_process_open_fds", "gauge", ("process",), "Files that the platform's processes have open."
)
LOOP_LAG: Final = Metric(
    "pinnace_control_loop_lag_seconds", "histogram", (), "How late the control process's event loop was, looked at each 0.25 s."
)
INFO: Final = Metric("pinnace_build_info", "gauge", ("version", "orchestration"), "1; what runs here.")

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
