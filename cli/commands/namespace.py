"""`faas namespace`: where functions and secrets live apart from each other."""

from __future__ import annotations

import click

from cli.errors import GatewayRefused, Misuse
from cli.options import Command, gateway_options, json_option, name_values, open_gateway
from cli.tables import pairs, print_fields, print_json

# OpenFaaS shows only namespaces that carry this mark, so its clients put it on all they make.
MARK = {"openfaas": "1"}


@click.group(short_help="Create, update, list and remove namespaces.")
def namespace() -> None:
    """Create, update, list and remove namespaces."""


def _metadata_options(command: Command) -> Command:
    for option in (
        click.option("--annotation", multiple=True, metavar="NAME=VALUE", help="An annotation."),
        click.option("--label", "-l", multiple=True, metavar="NAME=VALUE", help="A label."),
    ):
        command = option(command)
    return command


@namespace.command(short_help="Create a namespace.")
@click.argument("name")
@_metadata_options
@gateway_options
def create(name: str, label: tuple[str, ...], annotation: tuple[str, ...], gateway: str | None, tls_no_verify: bool) -> None:
    """Create a namespace."""
    content = _content(name, label, annotation)
    reply = open_gateway(gateway, tls_no_verify).call(
        "POST", "/system/namespace/", content=content, accept=(200, 201, 202, 409)
    )
    if reply.status == 409:
        raise GatewayRefused(409, f"there is a namespace {name} already")
    click.echo(f"Created namespace {name}.")


@namespace.command(short_help="Give a namespace other labels and annotations.")
@click.argument("name")
@_metadata_options
@gateway_options
def update(name: str, label: tuple[str, ...], annotation: tuple[str, ...], gateway: str | None, tls_no_verify: bool) -> None:
    """Give a namespace these labels and annotations instead of those it has."""
    content = _content(name, label, annotation)
    reply = open_gateway(gateway, tls_no_verify).call(
        "PUT", f"/system/namespace/{name}", content=content, accept=(200, 201, 202, 404)
    )
    _known(reply.status, name)
    click.echo(f"Updated namespace {name}.")


@namespace.command(short_help="Show one namespace.")
@click.argument("name")
@json_option
@gateway_options
def get(name: str, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Show a namespace with its labels and annotations."""
    reply = open_gateway(gateway, tls_no_verify).call("GET", f"/system/namespace/{name}", accept=(200, 404))
    _known(reply.status, name)
    value = reply.json()
    if as_json:
        return print_json(value)
    return print_fields(
        [("Name", value.get("name")), ("Labels", pairs(value.get("labels"))), ("Annotations", pairs(value.get("annotations")))]
    )


@namespace.command("list", short_help="List namespaces.")
@json_option
@gateway_options
def list_namespaces(as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """List the names of the namespaces."""
    names = open_gateway(gateway, tls_no_verify).call("GET", "/system/namespaces").json()
    if as_json:
        return print_json(names)
    for name in names:
        click.echo(name)
    return None


@namespace.command(short_help="Remove a namespace.")
@click.argument("name")
@gateway_options
def remove(name: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Remove a namespace that holds no functions, with its secrets."""
    _checked(name)
    reply = open_gateway(gateway, tls_no_verify).call(
        "DELETE", f"/system/namespace/{name}", content={"name": name, "labels": MARK}, accept=(200, 201, 202, 204, 404)
    )
    _known(reply.status, name)
    click.echo(f"Removed namespace {name}.")


def _content(name: str, labels: tuple[str, ...], annotations: tuple[str, ...]) -> dict[str, object]:
    return {
        "name": _checked(name),
        "labels": {**MARK, **name_values(labels, "--label")},
        "annotations": {**MARK, **name_values(annotations, "--annotation")},
    }


def _checked(name: str) -> str:
    from orchestration.names import InvalidName, check_namespace

    try:
        return check_namespace(name)
    except InvalidName as error:
        raise Misuse(str(error)) from None


def _known(status: int, name: str) -> None:
    if status == 404:
        raise GatewayRefused(404, f"there is no namespace {name}")
