"""What `faas serve` can be told, in one table: flag > environment > file > default.

Each field of `ServeSettings` is a flag (`--data-dir`), a variable (`PINNACE_DATA_DIR`) and a key of the TOML file that
`--config` or `PINNACE_CONFIG` names (`data_dir = "…"`). `docs/settings.md` is generated from this table.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.extraction import Limits
from cli.hints import did_you_mean
from gateway.asynchronous.redis.settings import InvalidRedisSetting, RedisSettings
from orchestration.duration import InvalidDuration, parse_duration_s
from orchestration.quantity import InvalidQuantity, parse_quantity
from telemetry import otel_environment

PREFIX = "PINNACE_"
MOST_UNPACKED_BYTES = Limits().archive_bytes


class InvalidServeSetting(ValueError):
    """A setting has a value that cannot be; the message names where it came from and says what would be right."""


def default_data_dir(environment: Mapping[str, str] = os.environ) -> str:
    """Return `/var/lib/pinnace` for root, else the user's data folder (XDG base directory specification)."""
    if os.geteuid() == 0:
        return "/var/lib/pinnace"
    base = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(base) / "pinnace")


def _field(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """Sizes are bytes, times seconds; both may be written with units (`10Gi`, `15m`) in flags, variables and file."""

    port: int = _field(8080, "Port to listen on; 0 takes a free one.")
    host: str = _field("127.0.0.1", "Address to listen on; 0.0.0.0 or :: for all.")
    data_dir: str = _field("", "Folder for all state. Default: /var/lib/pinnace as root, else ~/.local/share/pinnace.")
    auth: bool = _field(True, "Ask for a login everywhere but on /function, /async-function and /healthz.")
    workers: int = _field(1, "Edge processes that share the port.")
    orchestration: str = _field("local", "Where functions run: local (processes of this machine) or kubernetes.")
    kubeconfig: str = _field(
        "", "Kubeconfig file of the cluster. Default: the pod's own account, else $KUBECONFIG or ~/.kube/config."
    )
    platform_namespace: str = _field(
        "", "Namespace of the platform itself in the cluster. Default: the pod's own, else default."
    )
    role: str = _field("all", "What of the platform this process is, on a cluster: edge, control, controller, or all of it.")
    link_port: int = _field(8083, "Port on which a controller waits for edges (roles that run apart).")
    link_secret_file: str = _field("", "File with the secret that edge, control and controller share (roles that run apart).")
    control: str = _field("control:8080", "HOST:PORT of the control API, for edges (roles that run apart).")
    drain_s: float = _field(4.0, "How long calls in progress may take to finish when the platform stops.")
    allow_hosts: tuple[str, ...] = _field(
        (), "Further names this gateway is called by (Host header), comma-separated; names of this machine are known."
    )
    trusted_proxies: tuple[str, ...] = _field(
        (), "Addresses or networks of proxies whose X-Forwarded-* headers are believed, comma-separated."
    )
    offline: bool = _field(False, "Builds use only dependencies that are already here.")
    registries: tuple[str, ...] = _field(
        (), "Registries that builds push images to and deploys pull from: HOST or HOST/PATH, comma-separated; * for all."
    )
    base_image: str = _field("", "The image that functions' images are built on. Default: the template's own.")
    build_time_limit_s: float = _field(600.0, "Longest time for one build.")
    bundle_quota_bytes: int = _field(10 << 30, "Most space for bundles; unused ones are removed first.")
    log_quota_bytes: int = _field(1 << 30, "Most space for the output of functions; the oldest goes first.")
    log_keep_s: float = _field(7 * 86400.0, "How long the output of functions is kept, where there is space.")
    zygote_memory_percent: int = _field(
        12, "Most memory for zygotes and stems, in percent of the machine's; 0: no zygotes are kept."
    )
    build_body_limit_bytes: int = _field(MOST_UNPACKED_BYTES, "Largest build context accepted, at most 576Mi.")
    body_limit_bytes: int = _field(0, "Largest body of an invocation accepted; 0 is no limit.")
    queue: str = _field(
        "", "Redis server that keeps asynchronous calls: redis://, rediss:// or unix://. Default: a file in the data folder."
    )
    queue_password_file: str = _field("", "File whose first line is the password of that server.")
    queue_name: str = _field("pinnace", "What the keys in that server begin with: platforms that share it have different ones.")
    queue_wait_for_disk: bool = _field(
        True, "Acknowledge a call when that server has synced it, where it can be asked (WAITAOF, Redis 7.2)."
    )
    async_body_limit_bytes: int = _field(16 << 20, "Largest body of an asynchronous call accepted.")
    async_result_limit_bytes: int = _field(16 << 20, "How much of a response to an asynchronous call is kept.")
    async_concurrency: int = _field(500, "Asynchronous calls that run at a time, of all functions together.")
    async_waiting_calls: int = _field(1_000_000, "Asynchronous calls of one function that may wait.")
    async_waiting_bytes: int = _field(4 << 30, "Bytes that the waiting asynchronous calls of one function may hold.")
    async_keep_s: float = _field(86400.0, "How long an asynchronous call and its result are known after its end.")
    async_keep_dead_s: float = _field(7 * 86400.0, "How long a dead asynchronous call can be replayed.")
    async_quota_bytes: int = _field(1 << 30, "Most space for ended asynchronous calls; the oldest go first.")
    callback_allow: tuple[str, ...] = _field(
        (),
        "Where callbacks may go: public, loopback, networks, names, *.DOMAIN, or *; comma-separated. Default: public, and "
        "loopback where functions run on this machine and the platform listens on it alone.",
    )
    callback_secret: str = _field("", "File with the secret that signs callbacks. Default: callback-secret in the data folder.")
    callback_retry_for_s: float = _field(3600.0, "For how long a callback that fails is tried again.")
    prometheus_url: str = _field("", "Prometheus that answers the queries of functions scaled by a metric of their own.")
    metrics_host: str = _field("127.0.0.1", "Address for the metrics port, which asks for no login.")
    metrics_port: int = _field(
        8082, "Port for /metrics without a login; 0: none. 8082 is left out where it is taken, another one must be free."
    )
    otlp_endpoint: str = _field(
        "", "Collector that traces are sent to (OTLP over HTTP), as http://HOST:4318. Default: OTEL_EXPORTER_OTLP_ENDPOINT."
    )
    trace_ratio: float = _field(
        0.05, "Share of calls that are traced, 0 to 1; errors and cold starts are always. Default also: OTEL_TRACES_SAMPLER."
    )
    starts_per_function: int = _field(100, "Most replicas of one function that may be starting at a time.")
    starts_total: int = _field(200, "Most replicas that may be starting at a time.")
    log_format: str = _field("console", "The platform's own log: console or json.")
    save_login: bool = _field(True, "Write the login to the CLI's config file (~/.openfaas/config.yml) at start.")

    @property
    def folder(self) -> Path:
        return Path(self.data_dir or default_data_dir()).absolute()


def help_of(name: str) -> str:
    """Return what a setting is, in words."""
    return str(ServeSettings.__dataclass_fields__[name].metadata["help"])


def variable(name: str) -> str:
    """Return the environment variable of a setting: `body_limit_bytes` → `PINNACE_BODY_LIMIT`."""
    return PREFIX + spoken(name).upper()


def spoken(name: str) -> str:
    """Return a setting's name without its unit, as users write it."""
    return name.removesuffix("_bytes").removesuffix("_s")


def load(flags: Mapping[str, object], environment: Mapping[str, str], config: str | None = None) -> ServeSettings:
    """Return the settings; `flags` holds only what was given. Raises InvalidServeSetting."""
    values: dict[str, object] = {}
    fields = {f.name: f for f in dataclasses.fields(ServeSettings)}
    for source, given in (
        (config or "", _file(config) if config else {}),
        ("environment", {"trace_ratio": ratio} if (ratio := otel_environment.ratio(environment)) else {}),
        ("environment", {k: environment[variable(k)] for k in fields if environment.get(variable(k))}),
        ("command line", {k: v for k, v in flags.items() if v is not None}),
    ):
        by_spoken = {spoken(name): name for name in fields}
        for key, value in given.items():
            name = key if key in fields else by_spoken.get(key, "")
            if not name:
                hint = did_you_mean(key, by_spoken)
                raise InvalidServeSetting(f"{source}: unknown setting {key!r}{hint}; known: {', '.join(sorted(by_spoken))}")
            values[name] = _convert(name, value, type(fields[name].default), source)
    settings = ServeSettings(**values)  # type: ignore[arg-type]
    _check(settings)
    return settings


def redis_settings(settings: ServeSettings) -> RedisSettings:
    """Return the settings of the Redis server that `queue` names. Raises InvalidRedisSetting."""
    return RedisSettings(
        url=settings.queue,
        password_file=settings.queue_password_file,
        name=settings.queue_name,
        wait_for_disk=settings.queue_wait_for_disk,
    )


def _file(path: str) -> dict[str, object]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidServeSetting(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidServeSetting(f"{path}: {error}") from None


def _convert(name: str, value: object, kind: type, source: str) -> object:
    text = str(value).strip()
    where = f"{source}: {spoken(name)}={text!r}"
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise InvalidServeSetting(f"{where}: true or false")
        return text.lower() in ("true", "1", "yes", "on")
    if kind is tuple:
        parts = value if isinstance(value, list | tuple) else text.split(",")
        return tuple(str(part).strip() for part in parts if str(part).strip())
    try:
        if name.endswith("_s"):
            return parse_duration_s(text)
        if name.endswith("_bytes"):
            return int(parse_quantity(text))
        return kind(text)
    except (ValueError, InvalidDuration, InvalidQuantity) as error:
        what = "a number" if kind is float else "a whole number"
        raise InvalidServeSetting(f"{where}: {error if name.endswith(('_s', '_bytes')) else what}") from None


def _check(settings: ServeSettings) -> None:
    if not 0 <= settings.port <= 65535:
        raise InvalidServeSetting(f"port {settings.port}: 0 to 65535")
    if not 0 <= settings.metrics_port <= 65535:
        raise InvalidServeSetting(f"metrics_port {settings.metrics_port}: 0 to 65535")
    if not 0 <= settings.trace_ratio <= 1:
        raise InvalidServeSetting(f"trace_ratio {settings.trace_ratio}: 0 to 1")
    if settings.otlp_endpoint and not settings.otlp_endpoint.startswith(("http://", "https://")):
        raise InvalidServeSetting(f"otlp_endpoint {settings.otlp_endpoint!r}: http://HOST:4318 or https://HOST")
    if not 1 <= settings.workers <= 64:
        raise InvalidServeSetting(f"workers {settings.workers}: 1 to 64")
    if settings.orchestration not in ("local", "kubernetes"):
        raise InvalidServeSetting(f"orchestration {settings.orchestration!r}: local or kubernetes")
    if settings.role not in ("edge", "control", "controller", "all"):
        raise InvalidServeSetting(f"role {settings.role!r}: edge, control, controller or all")
    if settings.role != "all":
        _check_apart(settings)
    if settings.log_format not in ("console", "json"):
        raise InvalidServeSetting(f"log_format {settings.log_format!r}: console or json")
    if settings.prometheus_url and not settings.prometheus_url.startswith(("http://", "https://")):
        raise InvalidServeSetting(f"prometheus_url {settings.prometheus_url!r}: http://HOST:PORT or https://HOST")
    if settings.queue:
        try:
            redis_settings(settings)
        except InvalidRedisSetting as error:
            raise InvalidServeSetting(f"queue: {error}") from None
    for name in ("starts_per_function", "starts_total"):
        if getattr(settings, name) < 1:
            raise InvalidServeSetting(f"{name} {getattr(settings, name)}: 1 or more")
    for name in ("async_concurrency", "async_waiting_calls"):
        if getattr(settings, name) < 1:
            raise InvalidServeSetting(f"{name} {getattr(settings, name)}: 1 or more")
    if not 0 <= settings.zygote_memory_percent <= 90:
        raise InvalidServeSetting(f"zygote_memory_percent {settings.zygote_memory_percent}: 0 to 90")
    if settings.callback_retry_for_s <= 0:
        raise InvalidServeSetting("callback_retry_for: more than 0")
    if settings.callback_allow:
        from gateway.callbacks.addresses import Allowed, InvalidAllowance

        try:
            Allowed(settings.callback_allow)
        except InvalidAllowance as error:
            raise InvalidServeSetting(f"callback_allow: {error}") from None
    if settings.log_keep_s <= 0:
        raise InvalidServeSetting("log_keep: more than 0")
    if not 0 < settings.build_body_limit_bytes <= MOST_UNPACKED_BYTES:
        raise InvalidServeSetting(f"build_body_limit {settings.build_body_limit_bytes}: 1 to 576Mi; no build unpacks more")
    if settings.build_time_limit_s <= 0:
        raise InvalidServeSetting("build_time_limit: more than 0")


def _check_apart(settings: ServeSettings) -> None:
    if settings.orchestration != "kubernetes":
        raise InvalidServeSetting(f"role {settings.role}: with --orchestration kubernetes only; on one machine use --workers")
    if settings.workers != 1:
        raise InvalidServeSetting(f"workers {settings.workers}: 1 where roles run apart; start more edges instead")
    if not settings.link_secret_file:
        raise InvalidServeSetting("link_secret_file: needed where roles run apart; `openssl rand -hex 32` makes a secret")
    if settings.queue and not settings.callback_secret:
        raise InvalidServeSetting("callback_secret: needed with a queue where roles run apart, the same file for all")
    host, _, port = settings.control.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidServeSetting(f"control {settings.control!r}: HOST:PORT")
    if not 0 <= settings.link_port <= 65535:
        raise InvalidServeSetting(f"link_port {settings.link_port}: 0 to 65535")
