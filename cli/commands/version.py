"""`faas version`: what this client is, and what answers at the gateway."""

from __future__ import annotations

import platform
from typing import Any

import click

from cli.errors import CliError
from cli.options import gateway_options, json_option, open_gateway
from cli.tables import print_fields, print_json


@click.command(short_help="Show the versions of this client and the gateway.")
@json_option
@gateway_options
def version(as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Show the versions of this client and of the gateway. A gateway that does not answer is no failure here."""
    own = own_version()
    client = {"version": own, "python": platform.python_version()}
    connection = open_gateway(gateway, tls_no_verify)
    info: dict[str, Any] = {}
    problem = ""
    try:
        answer = connection.call("GET", "/system/info", timeout_s=5).json()
        info = answer if isinstance(answer, dict) else {}
    except CliError as error:
        problem = str(error)
    if as_json:
        return print_json(
            {"client": client, "gateway": {"url": connection.url, **info, **({"error": problem} if problem else {})}}
        )
    provider = info.get("provider") or {}
    print_fields(
        [
            ("Client", f"{own} (Python {client['python']})"),
            ("Gateway", problem or connection.url),
            ("Version", (info.get("version") or {}).get("release")),
            ("Provider", " ".join(filter(None, (provider.get("provider"), (provider.get("version") or {}).get("release"))))),
            ("Orchestration", provider.get("orchestration")),
            ("Architecture", info.get("arch")),
        ]
    )
    return None


def own_version() -> str:
    """Return the version that is installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed_version

    try:
        return installed_version("pinnace")
    except PackageNotFoundError:  # run from an unpacked wheel
        return "unknown"
