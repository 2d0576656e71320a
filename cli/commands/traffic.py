"""`faas traffic`, `faas rollback`, `faas promote`, `faas revisions`: where calls go, and what they could go to."""

from __future__ import annotations

from typing import Any

import click

from cli.errors import Misuse, UnknownFunction
from cli.options import addressed, function_argument, gateway_options, json_option, name_values, namespace_option, open_gateway
from cli.tables import age, print_json, print_table
from cli.traffic import Traffic, shown
from orchestration.traffic import LATEST


@click.command(short_help="Show or set which share of the calls goes to which revision.")
@function_argument
@click.argument("shares", metavar="[REVISION=PERCENT...]", nargs=-1)
@click.option("--tag", "tags", multiple=True, metavar="TAG=REVISION", help="Let TAG address a revision, whatever its share is.")
@click.option("--untag", multiple=True, metavar="TAG", help="Take a tag away.")
@namespace_option
@json_option
@gateway_options
def traffic(
    name: str,
    shares: tuple[str, ...],
    tags: tuple[str, ...],
    untag: tuple[str, ...],
    namespace: str,
    as_json: bool,
    gateway: str | None,
    tls_no_verify: bool,
) -> None:
    """Show or set which share of a function's calls goes to which revision.

    \b
    faas traffic hello                      where its calls go
    faas traffic hello 1=90 2=10            a split: revisions by number, name or tag
    faas traffic hello @latest=100          all to the newest one, and to those that come
    faas traffic hello --tag green=2        /function/hello--green calls revision 2

    The percentages come to 100 and replace those that were; tags stay. A table without @latest stays as it is when the
    function is deployed again.
    """
    name, namespace = addressed(name, namespace)
    asked = Traffic(open_gateway(gateway, tls_no_verify), name, namespace)
    if shares or tags or untag:
        told = asked.change(_percentages(shares), name_values(tags, "--tag"), untag)
    elif (found := asked.read()) is not None:
        told = found
    else:
        raise UnknownFunction(name, namespace)
    if as_json:
        return print_json(told)
    return _show(told)


@click.command(short_help="Send all calls back to an older revision.")
@function_argument
@click.option("--to", metavar="REVISION", default="", help="To this one; else the one before the one that serves.")
@namespace_option
@gateway_options
def rollback(name: str, to: str, namespace: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Send all calls back to an older revision, at once. Calls in flight finish where they are.

    Deploys move no calls from then on; faas promote ends that.
    """
    name, namespace = addressed(name, namespace)
    told = Traffic(open_gateway(gateway, tls_no_verify), name, namespace).roll_back(to)
    click.echo(f"{name}: {shown(told)}.")
    click.echo(f"Note: deploys move no calls from now on; faas promote {name} ends that", err=True)


@click.command(short_help="Send all calls to the newest revision.")
@function_argument
@namespace_option
@gateway_options
def promote(name: str, namespace: str, gateway: str | None, tls_no_verify: bool) -> None:
    """Send all calls to the newest revision that is ready, and from then on to those that are deployed later.

    It ends a split, a rollback, and a gradual rollout at 100 %. Tags stay.
    """
    name, namespace = addressed(name, namespace)
    told = Traffic(open_gateway(gateway, tls_no_verify), name, namespace).promote()
    click.echo(f"{name}: {shown(told)}.")


@click.command(short_help="List the revisions of a function.")
@function_argument
@namespace_option
@json_option
@gateway_options
def revisions(name: str, namespace: str, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """List the revisions of a function that are kept, newest first: calls can be sent to each of them."""
    name, namespace = addressed(name, namespace)
    connection = open_gateway(gateway, tls_no_verify)
    reply = connection.call("GET", f"/api/v1/functions/{name}", query={"namespace": namespace}, accept=(200, 404))
    if reply.status == 404:
        raise UnknownFunction(name, namespace)
    found = list(reversed(reply.json()["revisions"]))
    if as_json:
        return print_json(found)
    return print_revisions(found)


def print_revisions(found: list[dict[str, Any]]) -> None:
    """Print a table of revisions as `GET /api/v1/functions/NAME` has them."""
    print_table(
        ("REVISION", "TRAFFIC", "TAGS", "REPLICAS", "AGE", "IMAGE", "BUNDLE", "TROUBLE"),
        [
            (
                f"{r.get('name')}{f' ({LATEST})' if r.get('latest') else ''}",
                f"{r.get('percent') or 0}%",
                ", ".join(r.get("tags") or ()),
                r.get("replicas") or 0,
                age(r.get("createdAt")),
                r.get("image"),
                str(r.get("bundle") or "").removeprefix("sha256:")[:12],
                str(r.get("failure") or r.get("trouble") or "").removeprefix(f"{r.get('name')}: "),
            )
            for r in found
        ],
    )


def _show(told: Any) -> None:
    rows: dict[str, tuple[int, list[str]]] = {}
    for entry in told["routed"]:
        percent, tags = rows.get(entry["revision"], (0, []))
        rows[entry["revision"]] = percent + entry["percent"], [*tags, *filter(None, [entry.get("tag")])]
    print_table(
        ("REVISION", "TRAFFIC", "TAGS"), [(name, f"{percent}%", ", ".join(tags)) for name, (percent, tags) in rows.items()]
    )
    click.echo()
    if told.get("rollout"):
        click.echo(f"A gradual rollout of {told['rollout']['revision']} is under way.")
    elif any(entry["revision"] == LATEST and entry["percent"] for entry in told["traffic"]):
        click.echo(f"Deploys move what {LATEST} gets: {told['latest']} now.")
    else:
        click.echo("Deploys move no calls; faas promote sends all of them to the newest revision.")


def _percentages(texts: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in texts:
        revision, equals, percent = text.rpartition("=")
        percent = percent.removesuffix("%")
        if not equals or not revision or not (percent.isascii() and percent.isdigit() and len(percent) <= 3):
            raise Misuse(f"{text!r}: write REVISION=PERCENT, such as 2=10 or {LATEST}=100")
        found[revision] = int(percent)
    return found
