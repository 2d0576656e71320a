"""`faas builder`: only the build API, as a process of its own."""

from __future__ import annotations

import os

import click

from cli import settings as serve_settings
from cli.settings import help_of as _text


@click.command(short_help="Run only the build API: images for clusters.")
@click.option("--port", "-p", type=int, help=_text("port") + "  [default: 8080]")
@click.option("--host", help=_text("host") + "  [default: 127.0.0.1]")
@click.option("--data-dir", type=click.Path(), help=_text("data_dir"))
@click.option("--auth/--no-auth", default=None, help=_text("auth") + "  [default: auth]")
@click.option("--allow-hosts", metavar="NAMES", help=_text("allow_hosts"))
@click.option("--registries", metavar="NAMES", help=_text("registries") + "  [default: *]")
@click.option("--base-image", metavar="IMAGE", help=_text("base_image"))
@click.option("--offline/--online", default=None, help=_text("offline"))
@click.option("--build-time-limit", "build_time_limit_s", metavar="TIME", help=_text("build_time_limit_s") + "  [default: 10m]")
@click.option("--build-body-limit", "build_body_limit_bytes", metavar="SIZE", help=_text("build_body_limit_bytes"))
@click.option("--log-format", type=click.Choice(["console", "json"]), help=_text("log_format"))
@click.option("--save-login/--no-save-login", default=None, help=_text("save_login"))
@click.option(
    "--config", type=click.Path(), envvar="PINNACE_CONFIG", help="TOML file with settings (keys as in docs/settings.md)."
)
def builder(config: str | None, **flags: object) -> int:
    """Run the build API alone, in the foreground, until Ctrl-C or SIGTERM.

    It answers POST /build, GET /publickey and GET /healthz: contexts come in, container images go to the registry that
    their name says. Nothing runs here. faas publish and the stock faas-cli publish --remote-builder use it.
    """
    try:
        settings = serve_settings.load(flags, os.environ, config)
    except serve_settings.InvalidServeSetting as error:
        raise click.UsageError(str(error)) from None
    from cli import build_role

    return build_role.build_service(settings)
