"""`faas logs`: what a function wrote, as it stands or as it comes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from cli.api import Gateway, Reply
from cli.errors import CliError, GatewayRefused, Misuse, UnknownFunction
from cli.options import addressed, function_argument, gateway_options, namespace_option, open_gateway, seconds
from cli.tables import unix_seconds
from orchestration.names import DEFAULT_NAMESPACE

READ_SILENCE_S = 60.0


@click.command(short_help="Show what a function wrote.")
@function_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "--tail", "--lines", type=click.IntRange(min=0), metavar="N", help="Only the last N lines. Default: all that are kept."
)
@click.option("--since", default="", metavar="TIME", help="Only younger lines: 10m, 2h, or 2026-01-31T12:00:00Z.")
@click.option("--instance", default="", metavar="ID", help="Only of this replica.")
@click.option(
    "--output", "-o", type=click.Choice(["plain", "json"]), default="plain", show_default=True, help="How to print lines."
)
@click.option("--json", "-j", "as_json", is_flag=True, help="The same as -o json: one object a line.")
@click.option("--call-id", is_flag=True, help="Show the id of the call that a line belongs to.")
@click.option("--trace-id", is_flag=True, help="Show the id of the trace that a line's call belongs to, where it is traced.")
@click.option("--call", default="", metavar="ID", help="Only the lines of this call.")
@click.option("--time/--no-time", "times", default=True, help="Show when a line was written. Default: yes.")
@click.option("--show-instance", is_flag=True, help="Show which replica wrote a line.")
@namespace_option
@gateway_options
def logs(
    name: str,
    follow: bool,
    tail: int | None,
    since: str,
    instance: str,
    output: str,
    as_json: bool,
    call_id: bool,
    trace_id: bool,
    call: str,
    times: bool,
    show_instance: bool,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """Show what a function wrote to its output, oldest line first; also after its replicas are gone.

    With --call the exit code is 1 where nothing is known of that call.
    """
    if tail == 0 and not follow:
        return
    name, namespace = addressed(name, namespace)
    query = {
        "name": name,
        "namespace": namespace,
        "instance": instance,
        "call": call,
        "follow": "true" if follow else "false",
        "tail": tail if tail is not None and not call else -1,
        "since": _since(since),
    }
    connection = open_gateway(gateway, tls_no_verify)
    with connection.stream("GET", "/system/logs", query=query, timeout_s=None if follow else READ_SILENCE_S) as reply:
        if reply.status != 200:
            _refused(connection, name, namespace, Reply(reply.status, reply.headers, reply.read()))
        wanted = (line for text in reply.lines() if (line := _read(text)) is not None and call in ("", line.get("callId")))
        shown_keys = (("instance", show_instance), ("callId", call_id), ("traceId", trace_id))
        shown = list(wanted)[-tail:] if call and tail and not follow else wanted
        silent = True
        for line in shown:
            silent = False
            if as_json or output == "json":
                print(json.dumps(line, ensure_ascii=False), flush=follow)
            else:
                print(_plain(line, times, *(key for key, wanted in shown_keys if wanted)), flush=follow)
    if silent and not follow:
        click.echo(f"Note: {_silent(connection, name, namespace or DEFAULT_NAMESPACE, call, since)}", err=True)


def _silent(connection: Gateway, name: str, namespace: str, call: str, since: str) -> str:
    """Return what is to be said of a function, or a call, that wrote nothing. Raises CliError where the call is another's, or
    not known at all."""
    if not call:
        return f"{name} has written nothing{f' since {since}' if since else ''}; what its code prints is shown here"
    found = connection.call("GET", f"/api/v1/calls/{quote(call, safe='')}", accept=(200, 404, 405, 501))
    if found.status == 200:
        told = found.json()
        function, state = f"{told['name']}.{told['namespace']}", f"ended with {told['call']['status']}"
    else:
        found = connection.call("GET", f"/async-function/{quote(call, safe='')}", accept=(200, 400, 404, 405, 501))
        told = found.json() if found.status == 200 else None
        if not isinstance(told, dict) or "state" not in told:
            raise CliError(
                f"nothing is known of call {call}: {name} has no line of it, and it is not among the last calls of any function"
                " (the id is the X-Call-Id of an answer)"
            )
        function, state = str(told["function"]), f"is {told['state']}"
    if function not in (f"{name}.{namespace}", name):
        raise CliError(f"call {call} is one of {function}: faas logs {function} --call {call}")
    return f"call {call} {state} and wrote nothing that is kept"


def _plain(line: dict[str, Any], times: bool, *keys: str) -> str:
    parts = []
    if times:
        at = unix_seconds(line.get("timestamp"))
        parts.append(f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}" if at is not None else "-")
    parts += [str(line.get(key) or "-") for key in keys]
    return "  ".join((*parts, str(line.get("text", "")).rstrip("\n")))


def _read(text: bytes) -> dict[str, Any] | None:
    """Return a line of the stream; None for an empty one, which only keeps the connection alive."""
    if not text.strip():
        return None
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise GatewayRefused(200, f"the gateway's log is not readable: {text[:80]!r}")
    return line


def _refused(connection: Gateway, name: str, namespace: str, reply: Reply) -> None:
    if reply.status == 404:
        raise UnknownFunction(name, namespace)
    connection.refuse(reply)


def _since(text: str) -> str:
    """Return the time as RFC 3339 in UTC, from a duration or a time. Raises Misuse."""
    if not text:
        return ""
    at = unix_seconds(text)
    if at is None and ("-" in text or ":" in text):
        raise Misuse(f"--since {text!r}: write 10m, 2h, or a time such as 2026-01-31T12:00:00Z")
    moment = time.time() - seconds(text, "--since") if at is None else at
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
