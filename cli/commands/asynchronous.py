"""`faas async`: asynchronous calls, from the queue to the result."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from cli.api import Gateway, Reply, reason_of
from cli.errors import FAILED, CliError, GatewayRefused, Misuse, UnknownFunction
from cli.options import addressed, complete_function, gateway_options, json_option, namespace_option, open_gateway, seconds
from cli.tables import age, clean, color, counted, print_fields, print_json, print_table, seconds_text, table_lines

STATES = ("waiting", "running", "succeeded", "dead", "cancelled")
PAGE = 1000
EVERY_S = 1.0
RATE_OVER_S = 10.0
_CLEAR = "\x1b[H\x1b[2J"


class NoQueues(CliError):
    """The gateway is one whose queue cannot be looked into (stock OpenFaaS)."""


@click.group("async", short_help="Asynchronous calls: list, read, cancel, replay, watch.")
def asynchronous() -> None:
    """Look after asynchronous calls: what waits, runs, is dead or done. `faas invoke --async` submits one."""


@asynchronous.command("list", short_help="List calls.")
@click.argument("name", metavar="[NAME]", default="", shell_complete=complete_function)
@click.option("--state", "-s", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="At most so many.")
@click.option("--before", metavar="ID", default="", help="Go on behind this call, the last one of a list.")
@click.option("--quiet", "-q", is_flag=True, help="Print only ids, one a line.")
@namespace_option
@json_option
@gateway_options
def list_calls(
    name: str,
    state: str | None,
    limit: int,
    before: str,
    quiet: bool,
    namespace: str,
    as_json: bool,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """List asynchronous calls, the newest first: of one function, or of all.

    \b
    faas async list resize --state dead
    faas async list resize --state waiting -q --limit 100000 | faas async cancel -
    """
    if namespace and not name:
        raise Misuse("--namespace says where a function is: name one, or leave it out for the calls of all")
    if name:
        name, namespace = _queue(name, namespace)
    query = {"name": name, "namespace": namespace if name else "", "state": state}
    connection = open_gateway(gateway, tls_no_verify)
    rows, following = _calls(connection, query, limit, before)
    if name and not rows and not before:
        _check_function(connection, name.partition("#")[0], namespace)
    if as_json:
        return print_json(rows)
    if quiet:
        for row in rows:
            click.echo(row["id"])
        return None
    if not rows:
        click.echo("No such calls." if name or state else "No asynchronous calls are known.")
        return None
    head = ("ID", "FUNCTION", "STATE", "AGE", "ATTEMPTS", "STATUS", "WHY")
    print_table(head, [_row(row) for row in rows], shrink=-1)
    if following:
        click.echo(f"Note: there may be older ones: --limit shows more, --before {following} goes on", err=True)
    return None


@asynchronous.command("get", short_help="Show one call, or its result.")
@click.argument("call_id", metavar="ID")
@click.option("--wait", metavar="TIME", help="Wait so long for its end, such as 30s.")
@click.option("--result", "-r", is_flag=True, help="Print the function's answer and nothing else.")
@json_option
@gateway_options
def get(call_id: str, wait: str | None, result: bool, as_json: bool, gateway: str | None, tls_no_verify: bool) -> int:
    """Show what is known of a call. With --wait the exit code is 1 unless it has succeeded by then. With --result its answer
    goes to standard output; the exit code is 1 where it has none, or has one with an error status."""
    connection = open_gateway(gateway, tls_no_verify)
    call = _call(connection, call_id, seconds(wait, "--wait") if wait else 0.0)
    if result:
        return _result(connection, call)
    if as_json:
        print_json(call)
    else:
        print_fields(_fields(call))
    return FAILED if wait and call["state"] != "succeeded" else 0


@asynchronous.command("cancel", short_help="Cancel calls.")
@click.argument("call_ids", metavar="ID...", nargs=-1, required=True)
@gateway_options
def cancel(call_ids: Sequence[str], gateway: str | None, tls_no_verify: bool) -> int:
    """Cancel calls that wait or run; an attempt that is under way is broken off. With - their ids come from standard input.

    The exit code is 1 where one could not be cancelled; the others are.
    """
    connection = open_gateway(gateway, tls_no_verify)
    failed = 0
    for call_id in _named(call_ids):
        reply = connection.call("DELETE", f"/async-function/{_checked(call_id)}", accept=(202, 404, 409))
        if reply.status == 202:
            click.echo(f"Cancelled {call_id}; it was {reply.json()['was']}.")
        else:
            failed = 1
            click.echo(f"Error: {reason_of(reply)}", err=True)
    return failed


@asynchronous.command("replay", short_help="Try dead calls again.")
@click.argument("call_ids", metavar="[ID...]", nargs=-1)
@click.option(
    "--all",
    "name",
    metavar="NAME",
    shell_complete=complete_function,
    help="All dead calls of this function; of NAME#callback, its callbacks.",
)
@namespace_option
@gateway_options
def replay(call_ids: Sequence[str], name: str | None, namespace: str, gateway: str | None, tls_no_verify: bool) -> int:
    """Let dead calls wait again, with all their attempts. With - their ids come from standard input.

    The exit code is 1 where one could not be replayed; the others are.
    """
    if bool(call_ids) == bool(name):
        raise Misuse("say which calls: their ids, or --all NAME for all dead ones of a function")
    connection = open_gateway(gateway, tls_no_verify)
    if name:
        name, namespace = _queue(name, namespace)
        path = f"/api/v1/functions/{quote(name, safe='')}/replay"
        count = connection.call("POST", path, query={"namespace": namespace}, timeout_s=600).json()["replayed"]
        click.echo(f"{counted(count, 'call')} of {name} will be tried again.")
        return 0
    failed = 0
    for call_id in _named(call_ids):
        reply = connection.call("POST", f"/api/v1/async/calls/{_checked(call_id)}/replay", accept=(202, 404, 409))
        if reply.status == 202:
            click.echo(f"{call_id} will be tried again.")
        else:
            failed = 1
            click.echo(f"Error: {reason_of(reply)}", err=True)
    return failed


@asynchronous.command("top", short_help="Watch the queues.")
@click.option(
    "--once", is_flag=True, help="Print once, after a second, and end; so it is anyway where the output is no terminal."
)
@json_option
@gateway_options
def top(once: bool, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Watch how full the queues are, how fast they empty, and when a backlog will be done. Ctrl-C ends it."""
    connection = open_gateway(gateway, tls_no_verify)
    rows = _queues(connection)
    if as_json:
        return print_json(rows)
    if once or not sys.stdout.isatty():
        for line in _looked_at_twice(connection, rows):
            click.echo(line)
        return None
    progress = Progress()
    try:
        while True:
            progress.saw(rows, time.monotonic())
            lines = queue_table(rows, progress.rates(), shutil.get_terminal_size().columns)
            sys.stdout.write(_CLEAR + "\r\n".join(lines) + "\r\n")
            sys.stdout.flush()
            time.sleep(EVERY_S)
            rows = _queues(connection)
    except KeyboardInterrupt:
        return None


def _looked_at_twice(gateway: Gateway, rows: list[dict[str, Any]]) -> list[str]:
    """Return the table, with what a second look says of how fast backlogs shrink; where nothing waits, one is enough."""
    progress = Progress()
    progress.saw(rows, time.monotonic())
    if any(row["waiting"] for row in rows):
        time.sleep(EVERY_S)
        rows = _queues(gateway)
        progress.saw(rows, time.monotonic())
    return queue_table(rows, progress.rates())


class Progress:
    """How fast backlogs shrink, over the last RATE_OVER_S."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, dict[str, int]]] = []

    def saw(self, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """Note a picture at `now` (monotonic seconds)."""
        self._seen.append((now, {row["queue"]: row["waiting"] + row["running"] for row in rows}))
        while now - self._seen[0][0] > RATE_OVER_S:
            self._seen.pop(0)

    def rates(self) -> dict[str, float]:
        """Return by how many calls per second each queue shrinks; negative where it grows."""
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        if ended <= began:
            return {}
        return {queue: (before - last.get(queue, 0)) / (ended - began) for queue, before in first.items()}


def queue_table(rows: Sequence[Mapping[str, Any]], rates: Mapping[str, float], width: int = 0) -> list[str]:
    """Return the lines of the table; `rates` are calls per second by which a queue shrinks."""
    if not rows:
        return ["No queue holds a call that waits, runs or is dead."]
    cells = []
    for row in sorted(rows, key=lambda row: (-row["waiting"], row["queue"])):
        rate = rates.get(row["queue"], 0.0)
        left = seconds_text((row["waiting"] + row["running"]) / rate) if rate > 0 and row["waiting"] else ""
        late = seconds_text(row["lateS"]) if row["lateS"] else ""
        cells.append((row["queue"], row["waiting"], row["running"], row["dead"], late, f"{rate:.1f}/s" if rates else "", left))
    lines = table_lines(("QUEUE", "WAITING", "RUNNING", "DEAD", "LATE BY", "SHRINKS BY", "DONE IN"), cells, width=width)
    return [color(lines[0], "dim"), *lines[1:]]


def _queue(name: str, namespace: str) -> tuple[str, str]:
    """Return what `addressed` does of a function, or of its callbacks: `NAME#callback`, `NAME.NAMESPACE#callback`."""
    function, mark, kind = name.partition("#")
    bare, namespace = addressed(function, namespace)
    return f"{bare}{mark}{kind}", namespace


def _check_function(gateway: Gateway, name: str, namespace: str) -> None:
    """Raise UnknownFunction where there is none: calls of one that was removed are listed all the same."""
    if gateway.call("GET", f"/system/function/{name}", query={"namespace": namespace}, accept=(200, 404)).status == 404:
        raise UnknownFunction(name, namespace)


def _named(call_ids: Sequence[str]) -> Iterator[str]:
    """Yield the ids, those of standard input in the place of `-`."""
    for call_id in call_ids:
        if call_id == "-":
            yield from (word for line in sys.stdin for word in line.split())
        else:
            yield call_id


def _calls(gateway: Gateway, query: Mapping[str, object], limit: int, before: str) -> tuple[list[dict[str, Any]], str]:
    """Return the calls, and behind which one there may be more; empty where there are none."""
    rows: list[dict[str, Any]] = []
    while len(rows) < limit:
        wanted = {**query, "limit": min(PAGE, limit - len(rows)), "before": before}
        page = _known(gateway, gateway.call("GET", "/api/v1/async/calls", query=wanted, accept=(200, 404))).json()
        rows += page["calls"]
        before = page["next"]
        if not before:
            break
    return rows, before


def _queues(gateway: Gateway) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _known(gateway, gateway.call("GET", "/api/v1/async/queues", accept=(200, 404))).json()
    return rows


def _known(gateway: Gateway, reply: Reply) -> Reply:
    if reply.status == 404:
        raise NoQueues(f"{gateway.url} does not tell of asynchronous calls")
    return reply


def _call(gateway: Gateway, call_id: str, wait_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + wait_s
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        query = {"wait": f"{min(30.0, left_s):.3f}s"} if wait_s else {}
        reply = gateway.call("GET", f"/async-function/{_checked(call_id)}", query=query, accept=(200, 404))
        if reply.status == 404:
            raise GatewayRefused(404, f"there is no call {call_id}, or it is not known any more")
        call: dict[str, Any] = reply.json()
        if call["state"] not in ("waiting", "running") or time.monotonic() >= deadline:
            return call


def _result(gateway: Gateway, call: Mapping[str, Any]) -> int:
    with gateway.stream("GET", f"/async-function/{call['id']}/result") as reply:
        if reply.headers.get("x-openfaas-internal"):
            click.echo(reply.read().decode(errors="replace").strip(), err=True)
            return 1
        for chunk in reply.chunks():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        if reply.headers.get("x-result-cut"):
            click.echo("The answer was longer than what is kept: this is its beginning.", err=True)
        return int(reply.status >= 400)


def _checked(call_id: str) -> str:
    if not call_id or "/" in call_id or "?" in call_id:
        raise Misuse(f"{call_id!r} is not the id of a call")
    return call_id


def _row(call: Mapping[str, Any]) -> tuple[object, ...]:
    state = call["state"]
    status = call.get("response", {}).get("status", "")
    return (
        call["id"],
        call.get("queue") or call["function"],  # a callback has a queue of its own
        state,
        age(call["submittedAt"]),
        call["attempts"],
        status,
        clean(call.get("reason", "")),
    )


def _fields(call: Mapping[str, Any]) -> list[tuple[str, object]]:
    response = call.get("response") or {}
    return [
        ("ID", call["id"]),
        ("Function", call["function"]),
        ("Queue", queue if (queue := call.get("queue")) != call["function"] else None),
        ("State", call["state"]),
        ("Why", call.get("reason")),
        ("Request", f"{call['method']} {call['path']}, {call['bodyBytes']} bytes"),
        ("Submitted", f"{age(call['submittedAt'])} ago"),
        ("Attempts", call["attempts"]),
        ("Next attempt", _in(call["dueAt"]) if call["state"] == "waiting" else None),
        ("Took", _took(call["endedAt"] - call["startedAt"]) if call.get("startedAt") and call.get("endedAt") else None),
        ("Key", call.get("idempotencyKey")),
        ("Status", response.get("status")),
        ("Headers", [f"{name}: {value}" for name, value in response.get("headers", ())]),
        ("Body", _body(response)),
    ]


def _body(response: Mapping[str, Any]) -> str | None:
    """Return a short body, or how long it is; nothing of one that is empty, or is not kept, as between attempts."""
    body, size = response.get("body"), response.get("bodyBytes", 0)
    if body and len(body) <= 200:
        return clean(body)
    return f"{'the first ' if response.get('cut') else ''}{size} bytes" if size else None


def _took(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else seconds_text(seconds)


def _in(moment: float) -> str:
    left_s = moment - time.time()
    return f"in {seconds_text(left_s)}" if left_s > 0 else "as soon as there is room"
