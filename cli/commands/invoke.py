"""`faas invoke`: call a function with what comes on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

import click

from cli.api import Reply, StreamedReply, reason_of
from cli.deployment import why_broken
from cli.errors import GatewayRefused, Misuse, UnknownFunction
from cli.options import addressed, function_argument, gateway_options, name_values, namespace_option, open_gateway, seconds

HELD_BYTES = 1 << 20
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


@click.command(short_help="Call a function.")
@function_argument
@click.option("--data", "-d", metavar="TEXT", help="The body; else standard input. @FILE sends a file.")
@click.option("--method", "-m", type=click.Choice(METHODS, case_sensitive=False), help="Default: POST.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME=VALUE", help="A request header, also NAME: VALUE.")
@click.option("--query", "-q", multiple=True, metavar="NAME=VALUE", help="A query parameter.")
@click.option("--path", default="", metavar="PATH", help="The path behind the function's name.")
@click.option("--content-type", metavar="TYPE", help="Default: text/plain.")
@click.option(
    "--async",
    "-a",
    "asynchronous",
    is_flag=True,
    help="Submit the call to be carried out later; `faas async get` has the result.",
)
@click.option("--include", "-i", is_flag=True, help="Print the answer's status and headers to standard error.")
@click.option("--timeout", default="15m", show_default=True, metavar="TIME", help="Longest silence of the function.")
@namespace_option
@gateway_options
def invoke(
    name: str,
    data: str | None,
    method: str | None,
    headers: tuple[str, ...],
    query: tuple[str, ...],
    path: str,
    content_type: str | None,
    asynchronous: bool,
    include: bool,
    timeout: str,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> int:
    """Call a function and print its answer as it arrives.

    An answer with an error status goes to standard output too, its status to standard error, and the exit code is 1.
    """
    name, namespace = addressed(name, namespace)
    verb = (method or "POST").upper()
    fields = dict(_header(text) for text in headers)
    if content_type or not any(field.lower() == "content-type" for field in fields):
        fields["Content-Type"] = content_type or "text/plain"
    body = None if verb in ("GET", "HEAD", "OPTIONS") and data is None else _body(data)
    prefix = "/async-function/" if asynchronous else "/function/"
    address = prefix + name + (f".{namespace}" if namespace else "") + (f"/{path.lstrip('/')}" if path else "")
    pairs = name_values(query, "--query")
    limit = seconds(timeout, "--timeout")
    connection = open_gateway(gateway, tls_no_verify)
    with connection.stream(verb, address, query=pairs, body=body, headers=fields, timeout_s=limit, login=False) as reply:
        if reply.status == 404 and reply.headers.get("x-openfaas-internal"):
            why = reason_of(Reply(reply.status, reply.headers, reply.read()))
            raise GatewayRefused(404, why) if " has no tag " in why else UnknownFunction(name, namespace)
        if (
            reply.status == 503
            and reply.headers.get("x-openfaas-internal")
            and (why := why_broken(connection, name, namespace))
        ):
            raise GatewayRefused(reply.status, f"{name} cannot run: {why} (HTTP 503)")
        return _show(reply, name, namespace, include, asynchronous)


def _where_to_look(name: str, namespace: str, reply: StreamedReply) -> str:
    """Return which command shows what the function wrote in the call that failed."""
    call_id = reply.headers.get("x-call-id", "")
    place = f" -n {namespace}" if namespace else ""
    return f"; faas logs {name}{place} --call {call_id} says why" if call_id else ""


def _show(reply: StreamedReply, name: str, namespace: str, include: bool, asynchronous: bool) -> int:
    if include:
        click.echo(f"HTTP {reply.status}", err=True)
        for field, value in reply.headers.items():
            click.echo(f"{field}: {value}", err=True)
    if reply.headers.get("x-openfaas-internal") and reply.status >= 400:
        told = f"{name}: {reason_of(Reply(reply.status, reply.headers, reply.read()))}"
        raise GatewayRefused(reply.status, told + (_where_to_look(name, namespace, reply) if reply.status == 502 else ""))
    last = b"\n"
    for chunk in reply.chunks():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        last = chunk[-1:]
    if last != b"\n" and sys.stdout.isatty():
        click.echo()  # or the prompt would stand behind the answer
    if asynchronous and reply.status == 202:
        call_id = reply.headers.get("x-call-id", "")
        click.echo(call_id)
        click.echo(f"Accepted: faas async get {call_id or 'ID'} --wait 30s shows what becomes of it.", err=True)
    if reply.status >= 400:
        hint = _where_to_look(name, namespace, reply) if reply.status >= 500 else ""
        click.echo(f"{name} answered with HTTP {reply.status}{hint}", err=True)
        return 1
    return 0


def _body(data: str | None) -> bytes | Iterator[bytes]:
    """Return a short body whole (its length is then told to the function), a long one in pieces."""
    if data is not None and not data.startswith("@"):
        return data.encode()
    if data is not None:
        try:
            stream: BinaryIO = open(data[1:], "rb")  # noqa: SIM115, PTH123  # closed where it has been read
        except OSError as error:
            raise Misuse(f"--data {data}: {error.strerror}") from None
    else:
        stream = sys.stdin.buffer
        if stream.isatty():
            click.echo("Reading the body from standard input; Ctrl-D ends it.", err=True)
    held = stream.read(HELD_BYTES)
    if len(held) < HELD_BYTES:
        if data is not None:
            stream.close()
        return held
    return _rest(held, stream)


def _rest(held: bytes, stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while held:
            yield held
            held = stream.read(HELD_BYTES)


def _header(text: str) -> tuple[str, str]:
    colon, equals = text.find(":"), text.find("=")
    at = colon if colon > 0 and (equals < 0 or colon < equals) else equals
    if at <= 0 or not text[:at].strip():
        raise Misuse(f"--header {text!r}: write NAME=VALUE or NAME: VALUE")
    name, value = text[:at].strip(), text[at + 1 :].strip()
    if not (name.isascii() and name.isprintable() and " " not in name) or not value.isprintable():
        raise Misuse(f"--header {text!r}: a header's name and value hold no spaces in the name and no line ends")
    return name, value
