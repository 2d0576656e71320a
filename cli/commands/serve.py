"""`faas serve`: run the platform in the foreground."""

from __future__ import annotations

import os

import click

from cli import settings as serve_settings
from cli.settings import help_of as _text


@click.command(short_help="Run the platform on this machine.")
@click.option("--port", "-p", type=int, help=_text("port") + "  [default: 8080]")
@click.option("--host", help=_text("host") + "  [default: 127.0.0.1]")
@click.option("--data-dir", type=click.Path(), help=_text("data_dir"))
@click.option("--auth/--no-auth", default=None, help=_text("auth") + "  [default: auth]")
@click.option("--workers", type=int, help=_text("workers") + "  [default: 1]")
@click.option("--orchestration", type=click.Choice(["local", "kubernetes"]), help=_text("orchestration") + "  [default: local]")
@click.option("--kubeconfig", type=click.Path(), help=_text("kubeconfig"))
@click.option("--platform-namespace", metavar="NAME", help=_text("platform_namespace"))
@click.option("--role", type=click.Choice(["all", "edge", "control", "controller"]), help=_text("role") + "  [default: all]")
@click.option("--link-port", type=int, help=_text("link_port") + "  [default: 8083]")
@click.option("--link-secret-file", type=click.Path(), help=_text("link_secret_file"))
@click.option("--control", metavar="HOST:PORT", help=_text("control") + "  [default: control:8080]")
@click.option("--drain", "drain_s", metavar="TIME", help=_text("drain_s") + "  [default: 4s]")
@click.option("--allow-hosts", metavar="NAMES", help=_text("allow_hosts"))
@click.option("--trusted-proxies", metavar="NETWORKS", help=_text("trusted_proxies"))
@click.option("--offline/--online", default=None, help=_text("offline"))
@click.option("--registries", metavar="NAMES", help=_text("registries"))
@click.option("--base-image", metavar="IMAGE", help=_text("base_image"))
@click.option("--build-time-limit", "build_time_limit_s", metavar="TIME", help=_text("build_time_limit_s") + "  [default: 10m]")
@click.option("--bundle-quota", "bundle_quota_bytes", metavar="SIZE", help=_text("bundle_quota_bytes") + "  [default: 10Gi]")
@click.option("--log-quota", "log_quota_bytes", metavar="SIZE", help=_text("log_quota_bytes") + "  [default: 1Gi]")
@click.option("--log-keep", "log_keep_s", metavar="TIME", help=_text("log_keep_s") + "  [default: 168h]")
@click.option("--zygote-memory-percent", type=int, help=_text("zygote_memory_percent") + "  [default: 12]")
@click.option("--build-body-limit", "build_body_limit_bytes", metavar="SIZE", help=_text("build_body_limit_bytes"))
@click.option("--body-limit", "body_limit_bytes", metavar="SIZE", help=_text("body_limit_bytes"))
@click.option("--queue", metavar="URL", help=_text("queue"))
@click.option("--queue-password-file", type=click.Path(), help=_text("queue_password_file"))
@click.option("--queue-name", metavar="NAME", help=_text("queue_name") + "  [default: pinnace]")
@click.option(
    "--queue-wait-for-disk/--no-queue-wait-for-disk", default=None, help=_text("queue_wait_for_disk") + "  [default: wait]"
)
@click.option(
    "--async-body-limit", "async_body_limit_bytes", metavar="SIZE", help=_text("async_body_limit_bytes") + "  [default: 16Mi]"
)
@click.option(
    "--async-result-limit",
    "async_result_limit_bytes",
    metavar="SIZE",
    help=_text("async_result_limit_bytes") + "  [default: 16Mi]",
)
@click.option("--async-concurrency", type=int, help=_text("async_concurrency") + "  [default: 500]")
@click.option("--async-waiting-calls", type=int, help=_text("async_waiting_calls") + "  [default: 1000000]")
@click.option("--async-waiting", "async_waiting_bytes", metavar="SIZE", help=_text("async_waiting_bytes") + "  [default: 4Gi]")
@click.option("--async-keep", "async_keep_s", metavar="TIME", help=_text("async_keep_s") + "  [default: 24h]")
@click.option("--async-keep-dead", "async_keep_dead_s", metavar="TIME", help=_text("async_keep_dead_s") + "  [default: 168h]")
@click.option("--async-quota", "async_quota_bytes", metavar="SIZE", help=_text("async_quota_bytes") + "  [default: 1Gi]")
@click.option("--callback-allow", metavar="PLACES", help=_text("callback_allow"))
@click.option("--callback-secret", type=click.Path(), help=_text("callback_secret"))
@click.option(
    "--callback-retry-for", "callback_retry_for_s", metavar="TIME", help=_text("callback_retry_for_s") + "  [default: 1h]"
)
@click.option("--prometheus-url", metavar="URL", help=_text("prometheus_url"))
@click.option("--metrics-host", help=_text("metrics_host") + "  [default: 127.0.0.1]")
@click.option("--metrics-port", type=int, help=_text("metrics_port") + "  [default: 8082]")
@click.option("--otlp-endpoint", metavar="URL", help=_text("otlp_endpoint"))
@click.option("--trace-ratio", type=float, help=_text("trace_ratio") + "  [default: 0.05]")
@click.option("--starts-per-function", type=int, help=_text("starts_per_function") + "  [default: 100]")
@click.option("--starts-total", type=int, help=_text("starts_total") + "  [default: 200]")
@click.option("--log-format", type=click.Choice(["console", "json"]), help=_text("log_format"))
@click.option("--save-login/--no-save-login", default=None, help=_text("save_login"))
@click.option(
    "--config", type=click.Path(), envvar="PINNACE_CONFIG", help="TOML file with settings (keys as in docs/settings.md)."
)
def serve(config: str | None, **flags: object) -> int:
    """Run the platform on this machine, in the foreground, until Ctrl-C or SIGTERM.

    Prints `ready http://HOST:PORT` when it serves.
    """
    try:
        settings = serve_settings.load(flags, os.environ, config)
    except serve_settings.InvalidServeSetting as error:
        raise click.UsageError(str(error)) from None
    from cli import roles

    return roles.serve(settings)
