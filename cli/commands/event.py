"""`faas event`: CloudEvents, given to the functions that want them."""

from __future__ import annotations

import json
import string
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cli.api import Reply
from cli.errors import Misuse
from cli.options import Command, gateway_options, json_option, name_values, namespace_option, open_gateway
from cli.tables import print_json, print_table
from orchestration.names import DEFAULT_NAMESPACE

SOURCE = "/faas"
_SAFE = "".join(sorted(set(string.printable) - set(string.whitespace) - set('"%')))
"""What stands in a header of the binary mode as it is (CloudEvents' HTTP binding, section 3.1.3.2)."""


@click.group(short_help="CloudEvents: send one, see who would get it.")
def event() -> None:
    """Send CloudEvents to the functions that want them (the annotation com.pinnace.events)."""


def _attribute_options(command: Command) -> Command:
    for option in (
        click.option("--attribute", "-a", "more", multiple=True, metavar="NAME=VALUE", help="Another attribute."),
        click.option("--content-type", metavar="TYPE", help="What the data is; else what it looks like."),
        click.option("--subject", metavar="TEXT", help="What in the source it is about."),
        click.option("--source", "-s", default=SOURCE, show_default=True, metavar="URI", help="Where it happened."),
        click.option("--type", "-t", "kind", required=True, metavar="TYPE", help="What happened, as com.example.order.made."),
    ):
        command = option(command)
    return command


@event.command(short_help="Send an event.")
@_attribute_options
@click.option("--data", "-d", metavar="TEXT", help="What it tells. @FILE sends a file, @- standard input.")
@click.option("--id", "event_id", metavar="ID", help="The same source and ID again is the same event. Default: a new one.")
@namespace_option
@json_option
@gateway_options
def send(
    kind: str,
    source: str,
    subject: str | None,
    content_type: str | None,
    more: Sequence[str],
    data: str | None,
    event_id: str | None,
    namespace: str,
    as_json: bool,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """Send an event and print which functions got it, and as which calls. It waits, durable, in the queue of each of them."""
    body = _data(data)
    attributes = _attributes(kind, source, subject, event_id, more)
    told = _posted("/events", attributes, body, content_type, namespace, gateway, tls_no_verify)
    if as_json:
        return print_json(told)
    if not told["functions"]:
        return _nobody(kind, source, namespace)
    rows = [(got["function"], got["callId"], "sent before" if got["repeated"] else "") for got in told["functions"]]
    print_table(("FUNCTION", "CALL", ""), rows)
    click.echo("faas async get CALL --wait 30s shows what becomes of it.", err=True)
    return None


@event.command(short_help="List the functions that would get an event.")
@_attribute_options
@namespace_option
@json_option
@gateway_options
def match(
    kind: str,
    source: str,
    subject: str | None,
    content_type: str | None,
    more: Sequence[str],
    namespace: str,
    as_json: bool,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """List the functions that would get such an event. None is sent."""
    attributes = _attributes(kind, source, subject, None, more)
    told = _posted("/events/match", attributes, b"", content_type, namespace, gateway, tls_no_verify)
    if as_json:
        return print_json(told)
    if not told["functions"]:
        return _nobody(kind, source, namespace)
    return print_table(("FUNCTION", "NAMESPACE"), [(got["function"], got["namespace"]) for got in told["functions"]])


def _attributes(kind: str, source: str, subject: str | None, event_id: str | None, more: Sequence[str]) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {"type": kind, "source": source, "subject": subject, "id": event_id or str(uuid.uuid4()), "time": now}
    others = name_values(more, "--attribute")
    if twice := next((name for name in others if name != "time" and said.get(name) is not None), ""):
        raise Misuse(f"--attribute {twice}: there is --{twice} for that")
    return {"specversion": "1.0"} | {name: value for name, value in said.items() if value is not None} | others


def _posted(
    path: str,
    attributes: Mapping[str, str],
    body: bytes | None,
    content_type: str | None,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> dict[str, Any]:
    """Send an event in binary mode; return what is said of it."""
    headers = {f"ce-{name}": quote(value, safe=_SAFE) for name, value in attributes.items()}
    if kind := content_type or _looks_like(body):
        headers["Content-Type"] = kind
    headers["Accept"] = "application/json"
    connection = open_gateway(gateway, tls_no_verify)
    with connection.stream("POST", path, query={"namespace": namespace}, body=body or b"", headers=headers) as streamed:
        reply = Reply(streamed.status, streamed.headers, streamed.read())
    if reply.status not in (200, 202):
        connection.refuse(reply)
    found: dict[str, Any] = reply.json()["events"][0]
    return found


def _nobody(kind: str, source: str, namespace: str) -> None:
    place = namespace or DEFAULT_NAMESPACE
    click.echo(f"No function in {place} wants events of type {kind} from {source}.", err=True)


def _data(text: str | None) -> bytes | None:
    if text is None or not text.startswith("@"):
        return None if text is None else text.encode()
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise Misuse(f"--data {text}: {error.strerror}") from None


def _looks_like(body: bytes | None) -> str:
    """Return the media type of data that nobody has named one for."""
    if not body:
        return ""
    try:
        json.loads(body.decode())
    except UnicodeDecodeError:
        return "application/octet-stream"
    except (ValueError, RecursionError):
        return "text/plain; charset=utf-8"
    return "application/json"
