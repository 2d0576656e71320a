"""`faas top`: what all functions do, once a second in a terminal, once in a pipe."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple, Self

import click

from cli.api import Gateway, Reply
from cli.errors import CliError, GatewayUnreachable
from cli.options import gateway_options, json_option, namespace_option, open_gateway
from cli.tables import clean, color, counted, print_json, table_lines

EVENTS = "/api/v1/events"
SILENCE_S = 45.0
"""The gateway says something every 15 s, if only that there is nothing to say."""

PAUSE_S = 2.0
_HEAD = ("FUNCTION", "READY", "RATE", "P50", "P99", "ERRORS", "FLIGHT", "WAITING", "COLD", "CALLS", "STATE")
_DISPENSABLE = ("CALLS", "COLD", "FLIGHT", "P50", "STATE", "WAITING")
"""What a narrow terminal does without, the first first."""

_SCREEN, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

Row = dict[str, Any]
_ORDER: dict[str, Callable[[Row], Any]] = {
    "rate": lambda row: (-row["rate"], row["name"]),
    "name": lambda row: (row["name"], row["namespace"]),
    "p99": lambda row: (-(row["p99Ms"] or 0.0), row["name"]),
    "errors": lambda row: (-row["minuteErrors"], row["name"]),
    "waiting": lambda row: (-row["waiting"], row["name"]),
    "replicas": lambda row: (-row["ready"], row["name"]),
    "calls": lambda row: (-row["calls"], row["name"]),
}


class Figure(float):
    """A number with its own way to be written; a table puts it to the right."""

    text: str

    def __new__(cls, value: float, text: str) -> Self:
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text


class Event(NamedTuple):
    """One server-sent event."""

    id: str
    kind: str
    data: Any


@click.command(short_help="Watch what functions do.")
@click.option("--once", is_flag=True, help="Print once and end; so it is anyway where the output is no terminal.")
@click.option("--sort", type=click.Choice(list(_ORDER)), default="rate", show_default=True, help="What comes first.")
@namespace_option
@json_option
@gateway_options
def top(once: bool, sort: str, namespace: str, as_json: bool, gateway: str | None, tls_no_verify: bool) -> None:
    """Watch what functions do: replicas, calls, how long they take, errors, what is in flight and what waits. Ctrl-C ends it.

    Without --namespace all namespaces are shown. RATE is calls per second over the last ten; P50, P99 and ERRORS (status 5xx)
    are about the last minute; COLD and CALLS count since the platform started.
    """
    connection = open_gateway(gateway, tls_no_verify)
    query = {"namespace": namespace}
    if once or as_json or not sys.stdout.isatty():
        rows = sorted(_picture(connection, query), key=_ORDER[sort])
        if as_json:
            return print_json([{name: value for name, value in row.items() if name != "recent"} for row in rows])
        for line in table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0):
            click.echo(line)
        return None
    return Screen(connection, query, sort).run()


class Screen:
    """The terminal while it shows the table: the other screen, which is left as it was found."""

    def __init__(self, gateway: Gateway, query: Mapping[str, object], sort: str) -> None:
        self._gateway = gateway
        self._query = query
        self._sort = sort
        self._rows: dict[tuple[str, str], Row] = {}
        self._trouble = "connecting"

    def run(self) -> None:
        """Show until Ctrl-C."""
        before = signal.signal(signal.SIGWINCH, self._resized)
        sys.stdout.write(_SCREEN)
        try:
            self._follow()
        except KeyboardInterrupt:
            pass
        finally:
            sys.stdout.write(_BACK)
            sys.stdout.flush()
            signal.signal(signal.SIGWINCH, before)

    def _follow(self) -> None:
        last = ""
        while True:
            try:
                for event in _events(self._gateway, self._query, last):
                    last, self._trouble = event.id or last, ""
                    self._take(event)
                    self._draw()
            except GatewayUnreachable as error:
                if not last:
                    raise
                self._trouble = str(error)
                self._draw()
            time.sleep(PAUSE_S)  # a stream ends after an hour by itself

    def _take(self, event: Event) -> None:
        if event.kind == "state":
            self._rows.clear()
        for namespace, name in event.data["removed"]:
            self._rows.pop((namespace, name), None)
        for row in event.data["functions"]:
            self._rows[(row["namespace"], row["name"])] = row

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._draw()

    def _draw(self) -> None:
        columns, lines = shutil.get_terminal_size()
        rows = sorted(self._rows.values(), key=_ORDER[self._sort])
        shown = [headline(self._gateway.url, rows, self._trouble)[: columns - 1], "", *table(rows, columns)]
        if len(shown) > lines:
            shown = [*shown[: lines - 1], f"… and {len(shown) - lines + 1} more: --sort says which come first"[: columns - 1]]
        body = "\n".join(line + _REST_OF_LINE for line in shown)
        sys.stdout.write(_HOME + body.replace("\n", "\r\n") + _REST_OF_SCREEN)
        sys.stdout.flush()


def headline(url: str, rows: list[Row], trouble: str) -> str:
    """Return the sum of it all in one line."""
    if trouble:
        return clean(f"{url}: {trouble}")
    rate = sum(row["rate"] for row in rows)
    replicas, errors = sum(row["ready"] for row in rows), sum(row["minuteErrors"] for row in rows)
    parts = [counted(len(rows), "function"), counted(replicas, "replica"), f"{_rate(rate)} calls/s"]
    return f"{url}: {', '.join(parts)}, {counted(errors, 'error')} in the last minute"


def table(rows: list[Row], width: int) -> list[str]:
    """Return the table's lines; `width` is the terminal's, 0 for no limit. Where there are several namespaces they are told."""
    several = len({row["namespace"] for row in rows}) > 1
    columns = list(zip(_HEAD, *(_cells(row, several) for row in rows), strict=True))
    for name in _DISPENSABLE:
        if not width or max(map(len, _lines(columns))) <= width:
            break
        columns = [column for column in columns if column[0] != name]
    lines = _lines(columns, width)
    tones = [color("x", tone).split("x") if (tone := _tone(row)) else ("", "") for row in rows]
    body = [f"{begin}{line}{end}" for line, (begin, end) in zip(lines[1:], tones, strict=True)]
    return [color(lines[0], "dim"), *body]


def _lines(columns: list[tuple[Any, ...]], width: int = 0) -> list[str]:
    head, *rows = zip(*columns, strict=True)
    return table_lines(head, rows, shrink=-1 if columns[-1][0] == "STATE" else 0, width=width)


def _cells(row: Row, several: bool) -> tuple[object, ...]:
    return (
        f"{row['name']}.{row['namespace']}" if several else row["name"],
        Figure(row["ready"], f"{row['ready']}/{row['desired']}"),
        Figure(row["rate"], _rate(row["rate"])),
        _milliseconds(row["p50Ms"]),
        _milliseconds(row["p99Ms"]),
        row["minuteErrors"],
        row["inFlight"],
        row["waiting"],
        row["coldStarts"],
        row["calls"],
        _state(row),
    )


def _state(row: Row) -> str:
    if row["failing"] or row["phase"] == "Failed":
        return row["message"] or "failing"
    if row["starting"]:
        return f"{counted(row['starting'], 'replica')} starting"
    return "" if row["ready"] else "at zero"


def _tone(row: Row) -> str:
    if row["failing"] or row["phase"] == "Failed" or row["minuteErrors"]:
        return "red"
    if row["waiting"]:
        return "yellow"
    return "" if row["ready"] else "dim"


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if 0 < rate < 10 else f"{rate:.0f}"


def _milliseconds(value: float | None) -> Figure:
    if value is None:
        return Figure(-1.0, "-")
    return Figure(value, f"{value:.2f}ms" if value < 10 else f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s")


def _picture(gateway: Gateway, query: Mapping[str, object]) -> list[Row]:
    for event in _events(gateway, {**query, "follow": "false"}, ""):
        rows: list[Row] = event.data["functions"]
        return rows
    return []


def _events(gateway: Gateway, query: Mapping[str, object], last: str) -> Iterator[Event]:
    """Yield events after `last` as they come. Raises GatewayUnreachable, and what a refusal means."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    with gateway.stream("GET", EVENTS, query=query, headers=headers, timeout_s=SILENCE_S) as reply:
        if reply.status == 404:
            raise NoEvents(f"{gateway.url} does not tell what functions do; faas list shows what there is")
        if reply.status != 200:
            gateway.refuse(Reply(reply.status, reply.headers, reply.read()))
        fields: dict[str, str] = {}
        for line in reply.lines():
            if line.strip():
                name, _, value = line.decode(errors="replace").partition(":")
                fields[name] = value.strip()
            elif "data" in fields:
                with contextlib.suppress(ValueError):
                    yield Event(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
                fields = {}


class NoEvents(CliError):
    """The gateway is one that has no stream of events (stock OpenFaaS)."""
