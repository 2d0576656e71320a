"""`faas ready`: wait until the gateway, or a function, is ready."""

from __future__ import annotations

import time

import click

from cli.api import Gateway
from cli.errors import CliError, GatewayRefused, GatewayUnreachable, UnknownFunction
from cli.options import addressed, complete_function, gateway_options, namespace_option, open_gateway, seconds
from cli.progress import Progress

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


@click.command(short_help="Wait until the gateway or a function is ready.")
@click.argument("name", metavar="[NAME]", default="", shell_complete=complete_function)
@click.option("--timeout", default="60s", show_default=True, metavar="TIME", help="Give up after this time.")
@namespace_option
@gateway_options
def ready(name: str, timeout: str, namespace: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Wait until the gateway is healthy, or until the function NAME has a replica that answers."""
    name, namespace = addressed(name, namespace)
    limit_s = seconds(timeout, "--timeout")
    connection = open_gateway(gateway, tls_no_verify)
    deadline, pause_s = time.monotonic() + limit_s, FIRST_PAUSE_S
    with Progress() as progress:
        progress.stage(name or connection.url, "waiting until it is ready")
        while (problem := _problem(connection, name, namespace, deadline)) is not None:
            if time.monotonic() + pause_s >= deadline:
                raise problem
            time.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
    click.echo(f"{name or connection.url} is ready.")


def _problem(connection: Gateway, name: str, namespace: str, deadline: float) -> CliError | None:
    """Return why it is not ready yet, None when it is. Raises what waiting does not mend (no login, no such function)."""
    patience_s = max(0.1, min(5.0, deadline - time.monotonic()))
    try:
        if not name:
            connection.call("GET", "/healthz", timeout_s=patience_s)
            return None
        path, query = f"/system/function/{name}", {"namespace": namespace}
        status = connection.call("GET", path, query=query, timeout_s=patience_s).json()
    except GatewayUnreachable as error:
        return error
    except GatewayRefused as error:
        if name and error.status == 404:
            raise UnknownFunction(name, namespace) from None
        return error
    return None if status.get("availableReplicas") else CliError(f"{name} is not ready")
