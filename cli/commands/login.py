"""`faas login` and `faas logout`: the logins that faas and faas-cli share."""

from __future__ import annotations

import sys

import click

from cli.api import Gateway
from cli.errors import Misuse, NotLoggedIn
from cli.options import gateway_options, open_gateway


@click.command(short_help="Log in to a gateway.")
@click.option("--username", "-u", default="admin", show_default=True, help="The user.")
@click.option("--password", "-p", help="The password; better use --password-stdin, which other users cannot see.")
@click.option("--password-stdin", "-s", is_flag=True, help="Read the password from standard input.")
@gateway_options
def login(username: str, password: str | None, password_stdin: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Log in to a gateway and keep the login in ~/.openfaas/config.yml, where faas-cli finds it too.

    The password that the platform made is in basic-auth-password of its data folder. OPENFAAS_CONFIG names another folder for
    the login. Nothing is kept when the gateway does not take it.
    """
    from cli import credentials

    if not username or ":" in username:
        raise Misuse("--username is wanted, and holds no ':'")
    if password_stdin and password:
        raise Misuse("--password and --password-stdin do not go together")
    secret = (password or _read_password(password_stdin)).strip()
    if not secret:
        raise Misuse("the password is empty")
    url = open_gateway(gateway, tls_no_verify).url
    try:
        Gateway(url, credentials.Login(username, secret), verify_tls=not tls_no_verify).call(
            "GET", "/system/functions", timeout_s=10
        )
    except NotLoggedIn:
        raise NotLoggedIn(f"{url} does not take this user and password") from None
    click.echo(f"Logged in to {url} as {username}; kept in {credentials.save_login(url, username, secret)}.")


@click.command(short_help="Forget the login of a gateway.")
@gateway_options
def logout(gateway: str | None, tls_no_verify: bool) -> None:
    """Remove a gateway's login from ~/.openfaas/config.yml."""
    from cli import credentials

    url = open_gateway(gateway, tls_no_verify).url
    if not credentials.forget_login(url):
        raise NotLoggedIn(f"there is no login for {url}")
    click.echo(f"Logged out of {url}.")


def _read_password(stdin: bool) -> str:
    if stdin:
        return sys.stdin.read(64 << 10)
    if not sys.stdin.isatty():
        raise Misuse("a password is wanted: --password-stdin reads it from standard input")
    value: str = click.prompt("Password", hide_input=True, err=True)
    return value
