"""`faas describe`: all about one function, the most urgent first."""

from __future__ import annotations

from typing import Any

import click

from cli.api import Gateway
from cli.commands.traffic import print_revisions
from cli.deployment import condition_of
from cli.errors import GatewayRefused, UnknownFunction
from cli.options import addressed, function_argument, gateway_options, json_option, namespace_option, open_gateway
from cli.tables import age, color, pairs, print_fields, print_json, print_table
from orchestration.duration import format_duration

CHANGES_SHOWN = 5
_COLOR = {"Ready": "green", "Progressing": "yellow", "Failed": "red"}


@click.command(short_help="Show everything about one function.")
@function_argument
@namespace_option
@click.option("--starts", is_flag=True, help="Show what the last starts of replicas took, phase by phase, instead.")
@json_option
@gateway_options
def describe(name: str, namespace: str, starts: bool, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Show everything about one function: its state and why, replicas, revisions and traffic, settings, and what binds it.

    Values of environment variables may be confidential, so only --json shows them.
    """
    name, namespace = addressed(name, namespace)
    connection = open_gateway(gateway, tls_no_verify)
    status = _get(connection, f"/system/function/{name}", {"namespace": namespace, "usage": "1"})
    if status is None:
        raise UnknownFunction(name, namespace)
    details = _get(connection, f"/api/v1/functions/{name}", {"namespace": namespace})  # None on a stock gateway
    scaling = _get(connection, f"/api/v1/functions/{name}/scaling", {"namespace": namespace}) if details else None
    timers = None
    if details and _has_timers(status):
        timers = _get(connection, f"/api/v1/functions/{name}/timers", {"namespace": namespace})
    if starts:
        rows = (details or {}).get("starts") or []
        return print_json(rows) if as_json else _show_starts(rows)
    if as_json:
        return print_json({**details, "scaling": scaling, "timers": timers} if details else status)
    queues = _queues(connection) if details else []
    return _show(connection, name, namespace, status, details or {}, scaling or {}, timers or {}, queues)


def _show(
    connection: Gateway,
    name: str,
    namespace: str,
    status: dict[str, Any],
    details: dict[str, Any],
    scaling: dict[str, Any],
    timers: dict[str, Any],
    queues: list[dict[str, Any]],
) -> None:
    address = f"{name}.{namespace}" if namespace else name
    print_fields(
        [
            ("Name", status.get("name") or name),
            ("Namespace", status.get("namespace")),
            ("Status", _condition(status, details)),
            ("Replicas", _replicas(status, details)),
            ("URL", f"{connection.url}/function/{address}"),
            ("Image", status.get("image")),
            ("Command", status.get("envProcess")),
            ("Created", _ago(status.get("createdAt"))),
            ("Calls", details.get("invocationCount", status.get("invocationCount"))),
            ("Usage", _usage(status.get("usage") or {})),
            ("Limits", ", ".join(pairs(status.get("limits")))),
            ("Requests", ", ".join(pairs(status.get("requests")))),
            ("Environment", ", ".join(sorted(status.get("envVars") or {}))),
            ("Secrets", ", ".join(status.get("secrets") or ())),
            ("Constraints", status.get("constraints")),
            ("Read-only files", "yes" if status.get("readOnlyRootFilesystem") else None),
            ("Labels", pairs(status.get("labels"))),
            ("Annotations", pairs(status.get("annotations"))),
            ("Scaling", scaling_lines(scaling)),
            ("Timers", timer_lines(timers)),
            ("Asynchronous", queue_lines(address, f"{name}.{status.get('namespace')}", queues)),
            ("Notes", details.get("notes")),
        ]
    )
    replicas = details.get("replicas")
    if isinstance(replicas, list) and replicas:
        click.echo()
        print_table(
            ("REPLICA", "REVISION", "STATE", "RESTARTS", "AGE", "REASON, OR HOW IT LAST ENDED"),
            [
                (
                    r.get("id"),
                    r.get("revision"),
                    r.get("state"),
                    r.get("restarts") or 0,
                    age(r.get("startedAt")),
                    r.get("reason") or r.get("lastEnd"),
                )
                for r in replicas
            ],
        )
    changes = scaling.get("changes")
    if isinstance(changes, list) and changes:
        click.echo()
        print_table(
            ("SCALED", "REPLICAS", "WHY"),
            [
                (_ago(c.get("at")), f"{c.get('previous') or 0} → {c.get('replicas') or 0}", c.get("reason"))
                for c in changes[:CHANGES_SHOWN]
            ],
        )
    revisions = details.get("revisions")
    if isinstance(revisions, list) and revisions:
        click.echo()
        print_revisions(list(reversed(revisions)))


def _show_starts(starts: list[dict[str, Any]]) -> None:
    """Times are milliseconds; `imported` is the wait for the zygote, `ready` holds the import where there was none."""
    phases = ("placedMs", "preparedMs", "madeMs", "readyMs", "totalMs")
    print_table(
        ("STARTED", "REPLICA", "BY", "PLACED", "IMPORTED", "MADE", "READY", "TOTAL MS", "FAILED"),
        [
            (
                _ago(s.get("at")),
                s.get("replica"),
                s.get("kind"),
                *(f"{s.get(phase) or 0:.1f}" for phase in phases),
                s.get("failed"),
            )
            for s in starts
        ],
    )


def scaling_lines(scaling: dict[str, Any]) -> list[str]:
    """Return what is meant, what was decided last, and what else there is to say, each in one line."""
    settings, latest = scaling.get("settings") or {}, scaling.get("latest") or {}
    lines = []
    if settings:
        target, part = settings.get("target", 0), settings.get("utilisation", 1)
        meant = f"{settings.get('minReplicas')} to {settings.get('maxReplicas')}"
        meant += f", {settings.get('metric')} {target * part:g} each ({part:.0%} of {target:g})"
        if settings.get("zero"):
            after = format_duration(settings.get("zeroAfterS") or 0)
            meant += f", to zero after {after} idle" + (" or as learnt" if settings.get("learns") else "")
        lines.append(meant)
    lines += [text for text in (latest.get("reason"), scaling.get("trouble"), scaling.get("learnt")) if text]
    return lines


def timer_lines(timers: dict[str, Any]) -> list[str]:
    """Return a line for each timer: its schedule, the next runs, and the last one."""
    lines = []
    for timer in timers.get("timers") or ():
        coming = ", ".join(timer.get("next") or ()) or "never again"
        line = f"{timer.get('schedule')} {timer.get('zone')}: next {coming}"
        if timer.get("last"):
            line += f"; last {timer['last']}, call {timer.get('lastCall')}"
        lines.append(line)
    return [*lines, timers["trouble"]] if timers.get("trouble") else lines


def queue_lines(name: str, function: str, queues: list[dict[str, Any]]) -> list[str]:
    """Return a line for the function's asynchronous calls and one for callbacks about them, where any wait, run or are dead."""
    lines = []
    for row in queues:
        queue, _, kind = str(row.get("queue")).partition("#")
        if queue == function:
            word = f"{kind}s: " if kind else ""
            hint = f" (faas async list {name} --state dead)" if row.get("dead") else ""
            lines.append(f"{word}{row.get('waiting')} waiting, {row.get('running')} running, {row.get('dead')} dead{hint}")
    return lines


def _queues(connection: Gateway) -> list[dict[str, Any]]:
    """Return the queues that hold something; none where they cannot be looked at just now, which hides nothing else."""
    try:
        reply = connection.call("GET", "/api/v1/async/queues", accept=(200, 404, 405, 501, 503))
        value = reply.json() if reply.status == 200 else None
    except GatewayRefused:
        return []
    return value if isinstance(value, list) else []


def _has_timers(status: dict[str, Any]) -> bool:
    said = {**(status.get("labels") or {}), **(status.get("annotations") or {})}
    return "cron-function" in str(said.get("topic", ""))  # orchestration.timers takes 40 ms to import


def _replicas(status: dict[str, Any], details: dict[str, Any]) -> str:
    """Return the count for the revision with the most traffic, which the API's counts are about, and how many others run."""
    ready = status.get("availableReplicas") or 0
    running = sum(replica.get("state") == "Running" for replica in details.get("replicas") or ())
    others = f"; {running - ready} of other revisions" if ready and running > ready else ""
    return f"{ready} ready of {status.get('replicas') or 0}{others}"


def _condition(status: dict[str, Any], details: dict[str, Any]) -> str:
    phase, message = condition_of(details)
    if not phase:
        phase = "Ready" if status.get("availableReplicas") else "Not ready"
    text = color(phase, _COLOR.get(phase, "yellow"))
    return f"{text}: {' '.join(message.split())}" if message else text


def _usage(usage: dict[str, Any]) -> str:
    parts = []
    if (cpu := usage.get("cpu")) is not None:
        parts.append(f"{cpu:.0f}m CPU")
    if (memory := usage.get("totalMemoryBytes")) is not None:
        parts.append(f"{memory / (1 << 20):.0f} MiB memory")
    return ", ".join(parts)


def _ago(moment: object) -> str:
    return f"{text} ago" if (text := age(moment)) else ""


def _get(connection: Gateway, path: str, query: dict[str, object]) -> dict[str, Any] | None:
    reply = connection.call("GET", path, query=query, accept=(200, 404, 405, 501))
    value = reply.json() if reply.status == 200 else None
    return value if isinstance(value, dict) else None
