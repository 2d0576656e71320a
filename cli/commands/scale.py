"""`faas scale`: how many replicas a function has now."""

from __future__ import annotations

import click

from cli.errors import GatewayRefused, UnknownFunction
from cli.options import addressed, function_argument, gateway_options, namespace_option, open_gateway
from cli.tables import counted

MOST_REPLICAS = 10_000


def _in_range(context: click.Context, parameter: click.Parameter, value: int) -> int:
    if not 0 <= value <= MOST_REPLICAS:
        raise click.BadParameter(f"replicas are 0 to {MOST_REPLICAS}, not {value}", context, parameter)
    return value


# Unknown options are let through to the arguments, so that -1 is a number that is out of range.
@click.command(short_help="Set how many replicas a function has now.", context_settings={"ignore_unknown_options": True})
@function_argument
@click.argument("replicas", type=int, callback=_in_range)
@namespace_option
@gateway_options
def scale(name: str, replicas: int, namespace: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Set how many replicas a function has now. At 0 it stops until the next call starts it.

    The bounds of its labels com.openfaas.scale.min and .max still hold; 0 is always allowed.
    """
    name, namespace = addressed(name, namespace)
    content: dict[str, object] = {"serviceName": name, "replicas": replicas}
    if namespace:
        content["namespace"] = namespace
    connection = open_gateway(gateway, tls_no_verify)
    try:
        reply = connection.call("POST", f"/system/scale-function/{name}", query={"namespace": namespace}, content=content)
    except GatewayRefused as error:
        raise (UnknownFunction(name, namespace) if error.status == 404 else error) from None
    told = reply.body.decode(errors="replace").strip()  # ours says which count it came to inside of the bounds
    click.echo(told or f"Scaled {name} to {counted(replicas, 'replica')}.")
