"""`faas scale`: how many replicas a function has now."""

from __future__ import annotations

import click

from cli.options import function_argument, gateway_options, namespace_option, open_gateway
from cli.tables import counted


@click.command(short_help="Set how many replicas a function has now.")
@function_argument
@click.argument("replicas", type=click.IntRange(0, 10_000))
@namespace_option
@gateway_options
def scale(name: str, replicas: int, namespace: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Set how many replicas a function has now. At 0 it stops until the next call starts it.

    The bounds of its labels com.openfaas.scale.min and .max still hold; 0 is always allowed.
    """
    content: dict[str, object] = {"serviceName": name, "replicas": replicas}
    if namespace:
        content["namespace"] = namespace
    connection = open_gateway(gateway, tls_no_verify)
    reply = connection.call("POST", f"/system/scale-function/{name}", query={"namespace": namespace}, content=content)
    told = reply.body.decode(errors="replace").strip()  # ours says which count it came to inside of the bounds
    click.echo(told or f"Scaled {name} to {counted(replicas, 'replica')}.")
