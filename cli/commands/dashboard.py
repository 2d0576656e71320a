"""`faas dashboard`: the gateway's page, in a browser that need not be told a password."""

from __future__ import annotations

import os
import sys
import webbrowser

import click

from cli.api import Gateway
from cli.errors import CliError
from cli.options import gateway_options, open_gateway


class NoPage(CliError):
    """The gateway is one that has no page (stock OpenFaaS)."""


@click.command(short_help="Open the gateway's page in a browser.")
@click.option("--url", "only_url", is_flag=True, help="Print the address instead of opening it.")
@gateway_options
def dashboard(only_url: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Open the gateway's page in a browser, logged in with this client's login.

    Where there is no browser (over SSH) the address is printed; it is good once, for a minute.
    """
    connection = open_gateway(gateway, tls_no_verify)
    address = page_address(connection)
    if not only_url and _has_screen() and webbrowser.open(address):
        click.echo(f"Opened {connection.url}/ui/")
        return
    click.echo(address)


def page_address(gateway: Gateway) -> str:
    """Return the page's address with a link's token, which is good once and for a minute. Raises NoPage, NotLoggedIn, …"""
    reply = gateway.call("POST", "/api/v1/session", query={"link": "true"}, accept=(201, 404, 405))
    if reply.status != 201:
        raise NoPage(f"{gateway.url} has no page of this kind")
    token = reply.json().get("token")
    return f"{gateway.url}/ui/#session={token}" if token else f"{gateway.url}/ui/"


def _has_screen() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
