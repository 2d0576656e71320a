"""`faas deploy`: from source to a function that answers.

For each function: pack its folder, build it on the gateway, deploy the image, wait until its newest revision is ready.
Several functions go side by side; one that fails does not stop the others.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from dataclasses import dataclass

import click

from cli.api import Gateway
from cli.build import BuildFailed, CannotBuild, build, image_of
from cli.deployment import send, taken_away, wait_ready
from cli.errors import CliError
from cli.guess import check_entry
from cli.options import gateway_options, name_values, namespace_option, open_gateway, seconds
from cli.progress import Progress
from cli.selection import Asked, Changes, Selection, select
from cli.stack import StackFunction
from cli.tables import counted, seconds_text

_LOG_LINES = 40


@dataclass(frozen=True)
class _Plan:
    """What holds for every function of one deploy."""

    gateway: Gateway
    selection: Selection
    update: bool
    replace: bool
    wait: bool
    timeout_s: float
    verbose: bool


@click.command(short_help="Build and deploy functions and wait until they answer.")
@click.argument("path", metavar="[PATH]", default="")
@click.option(
    "--yaml", "-f", "file", metavar="FILE", default="", help="The stack file or its URL. Default: stack.yaml, stack.yml."
)
@click.option("--filter", "glob", metavar="GLOB", default="", help="Of the stack file, only names that fit.")
@click.option("--regex", metavar="REGEX", default="", help="Of the stack file, only names that fit.")
@click.option("--name", metavar="NAME", default="", help="The function's name; for a folder, the folder's name by default.")
@click.option("--lang", metavar="LANG", default="", help="The language; else the stack file's, else guessed from the handler.")
@click.option("--image", metavar="IMAGE", default="", help="Deploy this image, which has been built; needs --name.")
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="An environment variable; wins over the stack file.")
@click.option("--label", "-l", multiple=True, metavar="NAME=VALUE", help="A label.")
@click.option("--annotation", multiple=True, metavar="NAME=VALUE", help="An annotation.")
@click.option("--secret", multiple=True, metavar="NAME", help="A secret that the function may read.")
@click.option("--constraint", multiple=True, metavar="TEXT", help="A placement constraint, where the platform has any.")
@click.option("--memory-limit", metavar="SIZE", help="The most memory, such as 128Mi.")
@click.option("--cpu-limit", metavar="CPU", help="The most CPU, such as 500m.")
@click.option("--memory-request", metavar="SIZE", help="Memory to reserve.")
@click.option("--cpu-request", metavar="CPU", help="CPU to reserve.")
@click.option(
    "--fprocess",
    metavar="COMMAND",
    default="",
    help="The command of a function that runs one (bash, binary); other templates serve handlers themselves.",
)
@click.option("--readonly", is_flag=True, help="A file system that cannot be written to, but for /tmp.")
@click.option("--replace", is_flag=True, help="Remove the function first, instead of a rolling update.")
@click.option(
    "--update",
    type=bool,
    is_flag=False,
    flag_value="true",
    default="true",
    metavar="BOOL",
    help="Update a function that exists. Default: true; --update=false only creates.",
)
@click.option("--wait/--no-wait", default=True, help="Wait until the functions are ready. Default: wait.")
@click.option("--timeout", default="130s", show_default=True, metavar="TIME", help="Longest wait for one to become ready.")
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="How many to build at a time.")
@click.option(
    "--envsubst",
    type=bool,
    is_flag=False,
    flag_value="true",
    default="true",
    metavar="BOOL",
    help="Replace ${VAR} in the stack file. Default: true; --envsubst=false leaves it.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show what the builds write.")
@namespace_option
@gateway_options
def deploy(
    path: str,
    file: str,
    glob: str,
    regex: str,
    name: str,
    lang: str,
    image: str,
    env: tuple[str, ...],
    label: tuple[str, ...],
    annotation: tuple[str, ...],
    secret: tuple[str, ...],
    constraint: tuple[str, ...],
    memory_limit: str | None,
    cpu_limit: str | None,
    memory_request: str | None,
    cpu_request: str | None,
    fprocess: str,
    readonly: bool,
    replace: bool,
    update: bool,
    wait: bool,
    timeout: str,
    parallel: int,
    envsubst: bool,
    verbose: bool,
    namespace: str,
    gateway: str | None,
    tls_no_verify: bool,
) -> int:
    """Build and deploy functions and wait until they answer.

    \b
    faas deploy                      all functions of stack.yaml
    faas deploy hello                one of them, or the folder hello
    faas deploy ./src --name hello   a folder, with or without a stack file
    faas deploy --image IMAGE --name hello

    A function whose new code does not start keeps serving the code it had.
    """
    changes = Changes(
        environment=name_values(env, "--env"),
        labels=name_values(label, "--label"),
        annotations=name_values(annotation, "--annotation"),
        limits=_resources(memory_limit, cpu_limit),
        requests=_resources(memory_request, cpu_request),
        secrets=secret,
        constraints=constraint,
        fprocess=fprocess,
        namespace=namespace,
        readonly=readonly,
    )
    timeout_s = seconds(timeout, "--timeout")
    selection = select(Asked(path, file, image, name, lang, glob, regex, envsubst))
    functions = [changes.applied_to(function) for function in selection.functions]
    for function in functions:
        image_of(function)  # a name that cannot be is found before anything is sent, as is a folder without a handler
        if function.builds and function.handler is not None:
            check_entry(function.name, function.lang, function.handler, selection.copies, function.fprocess)
    for note in selection.notes:
        click.echo(f"Note: {note}", err=True)
    connection = open_gateway(gateway, tls_no_verify, stack_gateway=selection.gateway)
    return _deploy_all(functions, _Plan(connection, selection, update, replace, wait, timeout_s, verbose), parallel)


def _deploy_all(functions: list[StackFunction], plan: _Plan, parallel: int) -> int:
    """Deploy side by side, in threads that do not keep a Ctrl-C from ending the command. Return the exit code."""
    todo: queue.SimpleQueue[StackFunction] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[StackFunction, str | Exception]] = queue.SimpleQueue()
    for function in functions:
        todo.put(function)

    def work() -> None:
        while True:
            try:
                function = todo.get_nowait()
            except queue.Empty:
                return
            try:
                results.put((function, _deploy(function, plan, progress)))
            except Exception as error:  # handed to the thread that reports
                results.put((function, error))

    failed: list[tuple[StackFunction, Exception]] = []
    with Progress() as progress:
        for _ in range(min(parallel, len(functions))):
            threading.Thread(target=work, daemon=True, name="deploy").start()
        for _ in functions:
            function, outcome = results.get()
            progress.done(_shown(function))
            if isinstance(outcome, Exception):
                failed.append((function, outcome))
                _show_log(_shown(function), outcome, progress, plan.verbose)
                if len(functions) > 1:
                    progress.say(f"Error: {_told(function, outcome)}")
            else:
                progress.say(outcome, sys.stdout)
    if not failed:
        return 0
    if len(functions) == 1:
        raise failed[0][1]
    names = ", ".join(_shown(function) for function, _ in failed)
    click.echo(f"{len(functions) - len(failed)} of {counted(len(functions), 'function')} deployed; failed: {names}", err=True)
    # The reason that all failures share (no gateway, no login) is the command's; otherwise it just failed.
    codes = {error.exit_code if isinstance(error, CliError) else CliError.exit_code for _, error in failed}
    return codes.pop() if len(codes) == 1 else CliError.exit_code


def _deploy(function: StackFunction, plan: _Plan, progress: Progress) -> str:
    """Take one function all the way and return the line that says so."""
    started = time.monotonic()
    name = _shown(function)
    image = image_of(function)
    if function.builds:
        progress.stage(name, "building")
        try:
            image, _ = build(
                plan.gateway, function, plan.selection.copies, lambda line: _told_by_build(name, line, plan, progress)
            )
        except CannotBuild:
            if not function.image:
                raise
            progress.say(f"Note: {plan.gateway.url} does not build functions; deploying the image {image} as it is there")
    progress.stage(name, "deploying")
    gone = taken_away(plan.gateway, function) if plan.update or plan.replace else []
    generation = send(plan.gateway, function, image, update=plan.update, replace=plan.replace)
    if gone:
        progress.say(f"Note: {name}: no longer set: {', '.join(gone)} (flags hold for one deploy; stack.yaml keeps settings)")
    if plan.wait:
        progress.stage(name, "starting")
        wait_ready(plan.gateway, function, generation, plan.timeout_s)
    word = "Deployed" if plan.wait else "Accepted"
    return f"{word} {name} in {seconds_text(time.monotonic() - started)}. URL: {plan.gateway.url}/function/{name}"


def _told_by_build(name: str, line: str, plan: _Plan, progress: Progress) -> None:
    if plan.verbose:
        progress.say(f"{name} | {line}")


def _show_log(name: str, error: Exception, progress: Progress, verbose: bool) -> None:
    """The last lines of a failed build, unless they were shown as they came or only say that it began."""
    if not isinstance(error, BuildFailed) or verbose or len(error.log) < 2:
        return
    for line in [line for line in error.log if line and line not in str(error)][-_LOG_LINES:]:
        progress.say(f"{name} | {line}")


def _told(function: StackFunction, error: Exception) -> str:
    text = str(error) if isinstance(error, CliError | OSError) else f"{type(error).__name__}: {error}"
    return text if text.startswith(f"{function.name}: ") else f"{_shown(function)}: {text}"


def _shown(function: StackFunction) -> str:
    return f"{function.name}.{function.namespace}" if function.namespace else function.name


def _resources(memory: str | None, cpu: str | None) -> dict[str, str]:
    return {key: value for key, value in (("memory", memory), ("cpu", cpu)) if value}
