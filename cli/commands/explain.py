"""`faas explain`: where one call's time went."""

from __future__ import annotations

from typing import Any

import click

from cli.errors import CliError, GatewayRefused
from cli.options import gateway_options, json_option, open_gateway
from cli.tables import print_json, print_table

WORDS = {
    "queue": "waited for a free slot, or for a start to be decided",
    "start": "a replica started",
    "send": "until it was sent to the replica",
    "run": "until the answer was complete",
    "place": "waited for a place among the starting ones",
    "import": "the handler was imported",
    "fork": "the process was forked",
    "spawn": "the process was made",
    "ready": "until it could take calls",
}
MADE_OF = {
    "zygote": "a fork that had the handler imported",
    "stem": "a fork that imported the handler",
    "exec": "a new process",
}
WIDTH = 30


@click.command(short_help="Say where one call's time went.")
@click.argument("call_id", metavar="CALL_ID")
@json_option
@gateway_options
def explain(call_id: str, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Say where one call's time went. CALL_ID is what the answer carried as X-Call-Id.

    The gateway knows the last calls of each function: the last 32, and the last 32 that waited or failed.
    """
    try:
        found = open_gateway(gateway, tls_no_verify).call("GET", f"/api/v1/calls/{call_id}").json()
    except GatewayRefused as error:
        if error.status == 404:
            raise CliError(
                f"call {call_id} is not known: it is not among the last calls of any function"
                " (CALL_ID is the X-Call-Id of an answer)"
            ) from None
        raise
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    call = found["call"]
    kind = MADE_OF.get(call.get("startKind") or "", "")
    cold = f", cold: {kind}" if kind else ", cold" if call.get("cold") else ""
    click.echo(f"{found['name']}.{found['namespace']}: {call['status']} after {call['durationMs']:.1f} ms{cold}")
    if call.get("replica"):
        click.echo(f"replica {call['replica']}")
    click.echo()
    print_table(("PHASE", "MS", "", "WHAT HAPPENED"), _rows(call))


def _rows(call: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    whole = max(0.001, call["durationMs"])
    rows = []
    for phase in call.get("phases") or ():
        begin, took = phase["beginMs"], phase["durationMs"]
        offset = min(WIDTH - 1, int(WIDTH * begin / whole))
        bar = " " * offset + "#" * max(1, min(WIDTH - offset, round(WIDTH * took / whole)))
        rows.append((phase["name"], f"{took:.2f}", bar, WORDS.get(phase["name"], "")))
        if phase["name"] == "start":
            rows += [
                (f"  {part['name']}", f"{part['durationMs']:.2f}", "", WORDS.get(part["name"], ""))
                for part in call.get("startParts") or ()
            ]
    return rows
