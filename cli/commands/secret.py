"""`faas secret`: values that functions read as files and nobody can read back."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import click

from cli.errors import GatewayRefused, Misuse
from cli.options import Command, gateway_options, json_option, namespace_option, open_gateway
from cli.tables import print_json, print_table

PATH = "/system/secrets"
LARGEST_BYTES = 64 << 20


@click.group(short_help="Create, update, list and remove secrets.")
def secret() -> None:
    """Create, update, list and remove secrets: values that functions read as files."""


def _value_options(command: Command) -> Command:
    for option in (
        click.option(
            "--trim/--no-trim",
            default=True,
            help="Cut white space around a text; bytes that are no text stay whole. Default: cut.",
        ),
        click.option("--allow-empty", is_flag=True, help="Take an empty value."),
        click.option("--from-file", metavar="FILE", help="The value is the file's content."),
        click.option("--from-literal", metavar="TEXT", help="The value; other users of this machine may see it."),
    ):
        command = option(command)
    return command


@secret.command(short_help="Create a secret.")
@click.argument("name")
@_value_options
@click.option("--replace", is_flag=True, help="Update it when it is there already.")
@namespace_option
@gateway_options
def create(
    name: str,
    from_literal: str | None,
    from_file: str | None,
    trim: bool,
    allow_empty: bool,
    replace: bool,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """Create a secret from a literal, a file, or standard input."""
    content = _content(name, namespace, from_literal, from_file, trim, allow_empty)
    connection = open_gateway(gateway, tls_no_verify)
    reply = connection.call("POST", PATH, content=content, accept=(200, 201, 202, 409))
    if reply.status == 409 and not replace:
        raise GatewayRefused(409, f"there is a secret {name} already; change it: faas secret update {name}")
    if reply.status == 409:
        connection.call("PUT", PATH, content=content)
    click.echo(f"{'Updated' if reply.status == 409 else 'Created'} secret {name}.")


@secret.command(short_help="Give a secret another value.")
@click.argument("name")
@_value_options
@namespace_option
@gateway_options
def update(
    name: str,
    from_literal: str | None,
    from_file: str | None,
    trim: bool,
    allow_empty: bool,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """Give a secret another value, from a literal, a file, or standard input. Functions that use it see the new one."""
    content = _content(name, namespace, from_literal, from_file, trim, allow_empty)
    reply = open_gateway(gateway, tls_no_verify).call("PUT", PATH, content=content, accept=(200, 201, 202, 404))
    if reply.status == 404:
        raise GatewayRefused(404, f"there is no secret {name}; make it: faas secret create {name}")
    click.echo(f"Updated secret {name}.")


@secret.command("list", short_help="List the names of secrets.")
@namespace_option
@json_option
@gateway_options
def list_secrets(namespace: str, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """List the names of secrets; values are never shown."""
    rows = open_gateway(gateway, tls_no_verify).call("GET", PATH, query={"namespace": namespace}).json()
    if as_json:
        return print_json(rows)
    if not rows:
        click.echo("No secrets.", err=True)
        return None
    return print_table(("NAME", "NAMESPACE"), [(row.get("name"), row.get("namespace")) for row in rows])


@secret.command(short_help="Remove a secret.")
@click.argument("name")
@namespace_option
@gateway_options
def remove(name: str, namespace: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Remove a secret that no function uses."""
    content = {"name": name, **({"namespace": namespace} if namespace else {})}
    connection = open_gateway(gateway, tls_no_verify)
    reply = connection.call("DELETE", PATH, query={"namespace": namespace}, content=content, accept=(200, 201, 202, 204, 404))
    if reply.status == 404:
        raise GatewayRefused(404, f"there is no secret {name}")
    click.echo(f"Removed secret {name}.")


def _content(name: str, namespace: str, literal: str | None, file: str | None, trim: bool, allow_empty: bool) -> dict[str, str]:
    """Return the Secret to send: a text as `value`, bytes that are no text as `rawValue`. Raises Misuse."""
    from orchestration.names import InvalidName, check_secret_name

    try:
        check_secret_name(name)
    except InvalidName as error:
        raise Misuse(str(error)) from None
    value = _value(literal, file)
    content = {"name": name, **({"namespace": namespace} if namespace else {})}
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {**content, "rawValue": base64.b64encode(value).decode()}
    text = text.strip() if trim else text
    if not text and not allow_empty:
        raise Misuse(f"the value of the secret {name} is empty; --allow-empty takes it all the same")
    return {**content, "value": text}


def _value(literal: str | None, file: str | None) -> bytes:
    if literal is not None and file is not None:
        raise Misuse("--from-literal and --from-file do not go together")
    if literal is not None:
        return literal.encode()
    if file is not None:
        try:
            with Path(file).open("rb") as stream:
                value = stream.read(LARGEST_BYTES + 1)
        except OSError as error:
            raise Misuse(f"--from-file {file}: {error.strerror}") from None
    else:
        if sys.stdin.isatty():
            click.echo("Reading the value from standard input; Ctrl-D ends it.", err=True)
        value = sys.stdin.buffer.read(LARGEST_BYTES + 1)
    if len(value) > LARGEST_BYTES:
        raise Misuse(f"the value has more than {LARGEST_BYTES >> 20} MiB")
    return value
