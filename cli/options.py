"""Options and arguments that several commands share, so that they are called and explained alike everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.address import DEFAULT_GATEWAY, choose_gateway
from cli.errors import CliError, Misuse

if TYPE_CHECKING:
    from cli.api import Gateway

Command = TypeVar("Command", bound=Callable[..., Any])

STACK_FILES = ("stack.yaml", "stack.yml")


def gateway_options(command: Command) -> Command:
    """Add `--gateway` and `--tls-no-verify`; `open_gateway` takes their values."""
    for option in (
        click.option("--tls-no-verify", is_flag=True, help="Accept any TLS certificate."),
        click.option(
            "--gateway",
            "-g",
            metavar="URL",
            help=f"The gateway; else the stack file's, else $OPENFAAS_URL, else {DEFAULT_GATEWAY}.",
        ),
    ):
        command = option(command)
    return command


namespace_option = click.option(
    "--namespace", "-n", metavar="NAME", default="", help="The functions' namespace; else the default."
)
json_option = click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON for programs.")


def complete_function(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return names of deployed functions for the shell; none when no gateway answers at once."""
    try:
        gateway = open_gateway(context.params.get("gateway"))
        rows = gateway.call(
            "GET", "/system/functions", query={"namespace": context.params.get("namespace")}, timeout_s=1
        ).json()
    except CliError:
        return []
    return [row["name"] for row in rows if str(row.get("name", "")).startswith(incomplete)]


def addressed(name: str, namespace: str) -> tuple[str, str]:
    """Return the name and the namespace of `NAME` or `NAME.NAMESPACE` and `--namespace`. Raises Misuse when they differ."""
    bare, dot, place = name.rpartition(".")
    if not dot:
        return name, namespace
    if not bare or not place:
        raise Misuse(f"{name!r} is not a function: write NAME or NAME.NAMESPACE")
    if namespace not in ("", place):
        raise Misuse(f"{name} is in the namespace {place}, but --namespace says {namespace}")
    return bare, place


function_argument = click.argument("name", metavar="NAME", shell_complete=complete_function)


def find_stack_file() -> Path | None:
    """Return the stack file of the current folder: stack.yaml, else stack.yml, else None."""
    return next((Path(name) for name in STACK_FILES if Path(name).is_file()), None)


def open_gateway(flag: str | None, tls_no_verify: bool = False, *, stack_gateway: str | None = None) -> Gateway:
    """Return the gateway that the flag, the stack file or the environment names, with its login.

    `stack_gateway` is what an already read stack file says; without it the current folder's is asked. Raises Misuse.
    """
    from cli import credentials
    from cli.api import Gateway

    if stack_gateway is None and (path := find_stack_file()):
        from cli.stack import read_provider_gateway

        stack_gateway = read_provider_gateway(path)
    url = choose_gateway(flag, stack_gateway)
    return Gateway(url, credentials.find_login(url), verify_tls=not tls_no_verify)


def seconds(text: str, flag: str) -> float:
    """Return the duration given to `flag` in seconds. Raises Misuse."""
    from orchestration.duration import InvalidDuration, parse_duration_s

    try:
        value = parse_duration_s(text)
    except InvalidDuration as error:
        raise Misuse(f"{flag}: {error}") from None
    if value <= 0:
        raise Misuse(f"{flag}: more than 0 is wanted")
    return value


def name_values(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Return `NAME=VALUE` texts of a repeated flag as a map. Raises Misuse."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Misuse(f"{flag} {text!r}: write NAME=VALUE")
        values[name] = value
    return values
