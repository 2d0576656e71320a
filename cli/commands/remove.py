"""`faas remove`: take functions away."""

from __future__ import annotations

import click

from cli.api import Gateway
from cli.errors import FAILED, GatewayRefused, Misuse, UnknownFunction
from cli.options import addressed, complete_function, gateway_options, namespace_option, open_gateway


@click.command(short_help="Remove functions.")
@click.argument("names", metavar="NAME...", nargs=-1, shell_complete=complete_function)
@click.option("--yaml", "-f", "file", metavar="FILE", help="Remove the functions of this stack file.")
@click.option("--filter", "glob", metavar="GLOB", help="Of the stack file, only names that fit.")
@click.option("--regex", metavar="REGEX", help="Of the stack file, only names that fit.")
@namespace_option
@gateway_options
def remove(
    names: tuple[str, ...],
    file: str | None,
    glob: str | None,
    regex: str | None,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> int:
    """Remove functions by name, or those of a stack file. Calls in flight are finished.

    Without a name, -f must say which file: a whole project does not vanish by a forgotten argument.
    """
    if bool(names) == bool(file) or ((glob or regex) and not file):
        raise Misuse("say which: faas remove NAME..., or faas remove -f stack.yaml [--filter GLOB]")
    if file:
        from cli.stack import read_stack

        stack = read_stack(file)
        targets = [(f.name, namespace or f.namespace) for f in stack.select(glob or "", regex or "")]
        connection = open_gateway(gateway, tls_no_verify, stack_gateway=stack.gateway)
    else:
        targets = [addressed(name, namespace) for name in names]
        connection = open_gateway(gateway, tls_no_verify)
    return FAILED if [name for name, place in targets if not _remove(connection, name, place)] else 0


def _remove(connection: Gateway, name: str, namespace: str) -> bool:
    content = {"functionName": name, **({"namespace": namespace} if namespace else {})}
    try:
        connection.call("DELETE", "/system/functions", query={"namespace": namespace}, content=content)
    except GatewayRefused as error:
        told = UnknownFunction(name, namespace) if error.status == 404 else f"{name}: {error}"
        click.echo(f"Error: {told}", err=True)
        return False
    click.echo(f"Removed {name}.")
    return True
