"""`faas list`: the functions of a namespace, one line each."""

from __future__ import annotations

import click

from cli.options import gateway_options, json_option, namespace_option, open_gateway
from cli.tables import age, print_json, print_table, unix_seconds

_ORDER = {
    "name": lambda row: row["name"],
    "invocations": lambda row: -float(row.get("invocationCount") or 0),
    "creation": lambda row: -(unix_seconds(row.get("createdAt")) or 0.0),
}


@click.command("list", short_help="List functions.")
@click.option("--sort", type=click.Choice(list(_ORDER)), default="name", show_default=True, help="What comes first.")
@click.option("--quiet", "-q", is_flag=True, help="Print only names.")
@namespace_option
@json_option
@gateway_options
def list_functions(sort: str, quiet: bool, namespace: str, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """List the functions of a namespace: what runs, how much of it, and since when.

    READY counts replicas that answer, of those that should: 0/0 is a function at zero, which its next call starts.
    """
    rows = open_gateway(gateway, tls_no_verify).call("GET", "/system/functions", query={"namespace": namespace}).json()
    rows.sort(key=_ORDER[sort])
    if as_json:
        return print_json(rows)
    if quiet:
        for row in rows:
            click.echo(row["name"])
        return None
    if not rows:
        where = f" in the namespace {namespace}" if namespace else ""
        click.echo(f"No functions{where}. Make one: faas new hello --lang python3-http", err=True)
        return None
    print_table(
        ("NAME", "READY", "CALLS", "AGE", "IMAGE"),
        [
            (
                row["name"],
                f"{row.get('availableReplicas') or 0}/{row.get('replicas') or 0}",
                int(row.get("invocationCount") or 0),
                age(row.get("createdAt")),
                row.get("image"),
            )
            for row in rows
        ],
    )
    return None
