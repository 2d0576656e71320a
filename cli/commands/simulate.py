"""`faas simulate`: what other settings, or another platform's rules, would have done with the same calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.errors import CliError, Misuse, UnknownFunction
from cli.options import addressed, gateway_options, json_option, namespace_option, open_gateway
from cli.progress import Progress
from cli.tables import counted, print_json, print_table

if TYPE_CHECKING:
    from autoscaler.simulator.comparison import Comparison
    from autoscaler.simulator.policy import Policy
    from autoscaler.simulator.trace import Trace
    from cli.api import Gateway

SETTINGS_IN_ENV = ("max_inflight", "exec_timeout")
"""Variables of a function that bind its replicas; values of others are nobody's business here."""


@click.command(short_help="Replay calls against scaling settings, and compare.")
@click.argument("trace", required=False, default="", metavar="[TRACE]")
@click.option(
    "--policy",
    "-p",
    "names",
    multiple=True,
    metavar="NAME",
    help="Whom to compare: pinnace, pinnace-timers, fixed, knative, openfaas (several allowed). Default: all of them.",
)
@click.option(
    "--what-if",
    "-w",
    "what_ifs",
    multiple=True,
    metavar="[POLICY:]KEY=VALUE,…",
    help="One more policy: pinnace (or POLICY) with other settings, such as target=20 or zero-duration=5m (several allowed).",
)
@click.option(
    "--from-function",
    "function",
    default="",
    metavar="NAME",
    help="Replay the recent load of a deployed function, as it is set now and with each --what-if.",
)
@click.option("--start-time", default="", metavar="TIME", help="How long a replica starts: 10ms, 200ms..2s, p50=300ms,p99=1s.")
@click.option("--concurrency", type=click.IntRange(min=0), help="Calls that one replica takes at a time, 0: no limit.")
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="How often, each time with another seed.",
)
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="The first seed.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Processes that share the work."
)
@click.option(
    "--csv", "csv_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a line for each policy and seed."
)
@click.option(
    "--html", "html_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page with table and charts."
)
@click.option("--png", "png_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write the charts as a picture.")
@json_option
@namespace_option
@gateway_options
def simulate(
    trace: str,
    names: tuple[str, ...],
    what_ifs: tuple[str, ...],
    function: str,
    start_time: str,
    concurrency: int | None,
    seeds: int,
    seed: int,
    jobs: int,
    csv_path: str | None,
    html_path: str | None,
    png_path: str | None,
    as_json: bool,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """Replay calls against scaling settings, and compare what calls would have waited and what replicas would have cost.

    TRACE is a folder with a day of the Azure Functions 2019 data set, a .csv file of the 2021 one, a file of calls with
    START DURATION FUNCTION in each line (seconds), or traffic by rule: step, ramp, burst, diurnal, poisson, clients, with what
    differs from the default after a colon, as in step:from=1,to=50,at=1m,length=5m,run=100ms.

    The settings are decided on by the code that runs live; only the replicas and the clock are not real.
    """
    from autoscaler.simulator import reading
    from autoscaler.simulator.policy import UnknownPolicy
    from autoscaler.simulator.trace import InvalidTrace
    from orchestration.settings import InvalidSetting

    if bool(trace) == bool(function):
        raise Misuse(
            "say what to replay, one thing: a folder or file with a trace, "
            "one of step, ramp, burst, diurnal, poisson, clients, or --from-function NAME"
        )
    try:
        if function:
            replayed, deployed = _deployed(open_gateway(gateway, tls_no_verify), *addressed(function, namespace))
        else:
            replayed, deployed = reading.open_trace(trace), None
        policies = _policies(names, what_ifs, start_time, concurrency, deployed)
        comparison = _compare(replayed, policies, list(range(seed, seed + seeds)), jobs)
    except (InvalidTrace, InvalidSetting, UnknownPolicy) as error:
        raise Misuse(str(error)) from None
    _show(comparison, as_json)
    _write(comparison, csv_path, html_path, png_path)


def _deployed(connection: Gateway, name: str, namespace: str) -> tuple[Trace, Policy]:
    """Return the recent load of a function, and a policy with its own settings. Raises UnknownFunction, InvalidTrace."""
    import msgspec

    from autoscaler.simulator.load_record import trace_of
    from autoscaler.simulator.policy import Policy
    from autoscaler.simulator.trace import DEFAULT_MEMORY_MIB
    from orchestration.load_history import LoadHistory

    query: dict[str, object] = {"namespace": namespace, "usage": "1"}
    reply = connection.call("GET", f"/system/function/{name}", query=query, accept=(200, 404))
    if reply.status == 404:
        raise UnknownFunction(name, namespace)
    status = reply.json()
    recorded = connection.call("GET", f"/api/v1/functions/{name}/load", query={"namespace": namespace}, accept=(200, 404))
    if recorded.status == 404:
        raise CliError(f"the gateway at {connection.url} keeps no record of calls: it is another platform's, or an older one")
    history = msgspec.json.decode(recorded.body, type=LoadHistory)
    replicas, used = status.get("availableReplicas") or 0, (status.get("usage") or {}).get("totalMemoryBytes") or 0
    memory_mib = used / replicas / (1 << 20) if replicas and used else DEFAULT_MEMORY_MIB
    env = {key: value for key, value in (status.get("envVars") or {}).items() if key in SETTINGS_IN_ENV}
    policy = Policy(name="deployed", labels=status.get("labels") or {}, annotations=status.get("annotations") or {}, env=env)
    return trace_of(history, name, f"load on {name}", memory_mib), policy


def _policies(
    names: tuple[str, ...],
    what_ifs: tuple[str, ...],
    start_time: str,
    concurrency: int | None,
    deployed: Policy | None,
) -> list[Policy]:
    """Return whom to compare; `deployed`, where there is one, is the first and what a what-if changes."""
    from autoscaler.simulator.policy import POLICIES, named

    common = ",".join(
        ([f"concurrency={concurrency}"] if concurrency is not None else []) + ([f"start={start_time}"] if start_time else [])
    )

    def whole(policy: Policy) -> Policy:
        return policy.what_if(common, policy.name) if common else policy

    chosen = [whole(named(name)) for name in dict.fromkeys(names or (() if deployed else POLICIES))]
    if deployed is not None:
        chosen.insert(0, whole(deployed))
    for text in what_ifs:
        base, colon, changes = text.partition(":")
        if colon and "=" not in base:
            chosen.append(whole(named(base)).what_if(changes, text))
        else:
            chosen.append(whole(deployed or named("pinnace")).what_if(text, text))
    return chosen


def _compare(trace: Trace, policies: list[Policy], seeds: list[int], jobs: int) -> Comparison:
    from autoscaler.simulator.comparison import compare

    functions = counted(len(trace.workloads), "function")
    with Progress() as progress:

        def tell(share: float) -> None:
            progress.stage("simulating", f"{functions}, {int(share * 10) * 10}% done")

        tell(0.0)
        comparison = compare(trace, policies, seeds, jobs=min(jobs, os.cpu_count() or 1), progress=tell)
        progress.done("simulating")
    return comparison


def _show(comparison: Comparison, as_json: bool) -> None:
    from autoscaler.simulator import report

    if as_json:
        return print_json(report.as_json(comparison))
    return print_table(report.HEAD, report.rows(comparison), shrink=0)


def _write(comparison: Comparison, csv_path: str | None, html_path: str | None, png_path: str | None) -> None:
    from autoscaler.simulator import page, picture, report

    if csv_path:
        _file(csv_path, lambda path: path.write_text(report.as_csv(comparison)))
    if html_path:
        _file(html_path, lambda path: path.write_text(page.page(comparison)))
    if png_path:
        try:
            _file(png_path, lambda path: picture.write(comparison, path))
        except picture.NoMatplotlib as error:
            raise CliError(str(error)) from None


def _file(name: str, write: Callable[[Path], object]) -> None:
    try:
        write(Path(name))
    except OSError as error:
        raise CliError(f"{name} cannot be written: {error.strerror}") from None
