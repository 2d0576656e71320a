"""Several functions tested, built and deployed side by side; one that fails does not stop the others."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from builder.templates import Template
from cli.build import BuildFailed, CannotBuild, build, image_of, template_of
from cli.deploy_flags import DeployFlags
from cli.deployment import Sent, send, taken_away, wait_ready
from cli.dockerfile import build_for_registry, process_of
from cli.errors import CliError, Misuse
from cli.gate import TestsStopped, run_tests
from cli.guess import check_entry
from cli.handler_code import check_handler
from cli.misspellings import misspelt
from cli.options import open_gateway
from cli.progress import Progress
from cli.rollouts import TIMES, duration_s, follow
from cli.selection import Selection, select
from cli.stack import StackFunction
from cli.tables import clean, counted, seconds_text
from cli.traffic import Traffic
from orchestration.traffic import InvalidTraffic, check_tag

if TYPE_CHECKING:
    from cli.api import Gateway  # a client of HTTP, which builds of images do without

_LOG_LINES = 40
_TEST_LINES = 400
_WARNING = "warning: "


@dataclass(frozen=True)
class Plan:
    """What holds for every function of one deploy. `functions` have the command line's changes. `deploys`: not only builds.

    `builds_images`: where the gateway builds nothing, images are built here; `pushes`: and sent to their registry.
    """

    gateway: Gateway
    selection: Selection
    functions: tuple[StackFunction, ...]
    flags: DeployFlags
    timeout_s: float
    test_timeout_s: float | None
    deploys: bool = True
    builds_images: bool = False
    pushes: bool = True


def make_plan(path: str, flags: DeployFlags, *, deploys: bool = True) -> Plan:
    """Read what is to be deployed and check it; nothing is sent. Notes for the user go to stderr. Raises Misuse."""
    changes = flags.changes()
    if flags.gradual and flags.no_traffic:
        raise Misuse("--gradual moves calls and --no-traffic moves none: give one of them")
    if flags.tag:
        try:
            check_tag(flags.tag)
        except InvalidTraffic as error:
            raise Misuse(f"--tag: {error}") from None
    timeout_s, test_timeout_s = flags.timeout_s, flags.test_timeout_s
    selection = select(flags.asked(path))
    functions = tuple(changes.applied_to(function) for function in selection.functions)
    for function in functions:
        image_of(function)  # a name that cannot be is found before anything is sent, as is a folder without a handler
        if function.builds and function.handler is not None:
            check_entry(function.name, function.lang, function.handler, selection.copies, function.fprocess)
    for note in selection.notes:
        click.echo(f"Note: {note}", err=True)
    gateway = open_gateway(flags.gateway, flags.tls_no_verify, stack_gateway=selection.gateway)
    return Plan(gateway, selection, functions, flags, timeout_s, test_timeout_s, deploys)


def deploy_all(plan: Plan) -> int:
    """Deploy side by side and return the exit code. Raises what the one function, if it is one, failed of."""

    flags, deploying = plan.flags, threading.Semaphore(plan.flags.parallel)

    def deploy(function: StackFunction, progress: Progress) -> str:
        return deploy_one(function, plan, progress, deploying)

    parallel = len(plan.functions) if flags.follows else flags.parallel  # while one rolls out, the next is built
    return side_by_side(plan.functions, deploy, parallel=parallel, verbose=flags.verbose, word="deployed")


def side_by_side(
    functions: Sequence[StackFunction],
    do: Callable[[StackFunction, Progress], str],
    *,
    parallel: int,
    verbose: bool,
    word: str,
) -> int:
    """Do it for each function, `parallel` at a time, in threads that do not keep a Ctrl-C from ending the command.

    `do` returns the line that says that it is done. Returns the exit code; raises what the one function, if it is one,
    failed of.
    """
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
                results.put((function, do(function, progress)))
            except Exception as error:  # handed to the thread that reports
                results.put((function, error))

    failed: list[tuple[StackFunction, Exception]] = []
    with Progress() as progress:
        for _ in range(min(parallel, len(functions))):
            threading.Thread(target=work, daemon=True, name=word).start()
        for _ in functions:
            function, outcome = results.get()
            progress.done(shown(function))
            if isinstance(outcome, Exception):
                failed.append((function, outcome))
                _show_log(shown(function), outcome, progress, verbose)
                if len(functions) > 1:
                    progress.say(f"Error: {_told(function, outcome)}")
            else:
                progress.say(outcome, sys.stdout)
    if not failed:
        return 0
    if len(functions) == 1:
        raise failed[0][1]
    names = ", ".join(shown(function) for function, _ in failed)
    click.echo(f"{len(functions) - len(failed)} of {counted(len(functions), 'function')} {word}; failed: {names}", err=True)
    # The reason that all failures share (no gateway, no login) is the command's; otherwise it just failed.
    codes = {error.exit_code if isinstance(error, CliError) else CliError.exit_code for _, error in failed}
    return codes.pop() if len(codes) == 1 else CliError.exit_code


def deploy_one(function: StackFunction, plan: Plan, progress: Progress, deploying: threading.Semaphore) -> str:
    """Take one function all the way and return the line that says so. `deploying` bounds how many are built at a time."""
    started = time.monotonic()
    name = shown(function)
    rollout_s = duration_s(function) if plan.flags.follows else 0.0
    with deploying:
        sent, image = _deployed(function, plan, progress, follows=bool(rollout_s))
    if sent is None:
        return f"Built {name} in {seconds_text(time.monotonic() - started)}. Image: {image}"
    if rollout_s and sent.revision:
        progress.stage(name, "rolling out")
        limit_s = TIMES * rollout_s + plan.timeout_s
        follow(plan.gateway, function, sent.revision, limit_s, lambda line: progress.say(f"{name}: {line}"))
    word = "Deployed" if plan.flags.waits else "Accepted"
    return f"{word} {name} in {seconds_text(time.monotonic() - started)}. URL: {plan.gateway.url}/function/{name}"


def _deployed(function: StackFunction, plan: Plan, progress: Progress, *, follows: bool) -> tuple[Sent | None, str]:
    """Build and deploy the function, and wait until it is ready. Return what the gateway told (None: it is not deployed), and
    the image. What there is to be said of its traffic is told, unless its rollout `follows`."""
    name, flags = shown(function), plan.flags
    image = _built(function, plan, progress)
    function = replace(function, fprocess=process_of(function))
    if not plan.deploys:
        return None, image
    for line in misspelt(function.labels, function.annotations):
        progress.say(f"Note: {name}: {line}")
    progress.stage(name, "deploying")
    gone = taken_away(plan.gateway, function) if flags.update or flags.replace else []
    traffic = Traffic(plan.gateway, function.name, function.namespace or "")
    if flags.no_traffic and (flags.replace or not traffic.pin()):
        progress.say(f"Note: {name}: the first revision gets all calls, also with --no-traffic")
    sent = send(plan.gateway, function, image, update=flags.update, replace=flags.replace)
    if flags.tag:
        traffic.change({}, {flags.tag: sent.revision}, ())
    if gone:
        progress.say(f"Note: {name}: no longer set: {', '.join(gone)} (flags hold for one deploy; stack.yaml keeps settings)")
    if flags.waits:
        progress.stage(name, "starting")
        told, rolls_out = wait_ready(plan.gateway, function, sent.generation, plan.timeout_s)
        if rolls_out:
            told = f"{told or 'its calls move'}; the rollout goes on by itself, and --wait would follow it"
        if told and not follows:
            progress.say(f"Note: {name}: {told}")
        elif flags.gradual and sent.revision and not told:
            progress.say(f"Note: {name}: no calls move in steps: {sent.revision} had all of them, or is the first revision")
    return sent, image


def _built(function: StackFunction, plan: Plan, progress: Progress) -> str:
    """Test and build the function, unless it is an image that exists. Return the image's name."""
    name, image = shown(function), image_of(function)

    def told(line: str) -> None:
        tell(name, line, progress, verbose=plan.flags.verbose)

    if not function.builds:
        return image
    try:
        template = template_of(function, plan.gateway)
        check_handler(function, template, plan.selection.copies)
        if plan.test_timeout_s is not None:
            test(function, plan.selection.copies, template, progress, plan.test_timeout_s, verbose=plan.flags.verbose)
        progress.stage(name, "building")
        image, _ = build(plan.gateway, function, plan.selection.copies, told)
    except CannotBuild:
        if not function.image:
            raise
        if plan.builds_images:
            progress.stage(name, "building the image")
            return build_for_registry(function, plan.selection.copies, told, push=plan.pushes, verbose=plan.flags.verbose)
        progress.say(f"Note: {plan.gateway.url} does not build functions; deploying the image {image} as it is there")
    return image


def test(
    function: StackFunction,
    copies: tuple[str, ...],
    template: Template,
    progress: Progress,
    time_limit_s: float,
    *,
    verbose: bool,
) -> None:
    """Run the function's own tests, if it has any. Raises TestsStopped."""
    name = shown(function)
    progress.stage(name, "testing")
    output = run_tests(function, copies, template, lambda line: tell(name, line, progress, verbose=verbose), time_limit_s)
    if output is not None and verbose:
        progress.say(_block(name, output))


def tell(name: str, line: str, progress: Progress, *, verbose: bool) -> None:
    """Show a line of a build: all of them when asked for, warnings always."""
    if verbose:
        progress.say(f"{name} | {line}")
    elif line.startswith(_WARNING):
        progress.say(f"Note: {name}: {line.removeprefix(_WARNING)}")


def _show_log(name: str, error: Exception, progress: Progress, verbose: bool) -> None:
    """What failed tests wrote, or the last lines of a failed build, unless they were shown as they came."""
    if isinstance(error, TestsStopped) and error.output:
        progress.say(_block(name, error.output))
    elif isinstance(error, BuildFailed) and not verbose and len(error.log) >= 2:
        for line in [line for line in error.log if line and line not in str(error)][-_LOG_LINES:]:
            progress.say(f"{name} | {line}")


def _block(name: str, output: str) -> str:
    """Many lines as one text, so that those of functions tested at the same time do not mix."""
    lines = output.splitlines()
    left_out = [f"… {len(lines) - _TEST_LINES} lines before these"] if len(lines) > _TEST_LINES else []
    return "\n".join(f"{name} | {clean(line)}" for line in (*left_out, *lines[-_TEST_LINES:]))


def _told(function: StackFunction, error: Exception) -> str:
    text = str(error) if isinstance(error, CliError | OSError) else f"{type(error).__name__}: {error}"
    return text if text.startswith(f"{function.name}: ") else f"{shown(function)}: {text}"


def shown(function: StackFunction) -> str:
    """Return the function's name as people read it, with its namespace where it says one."""
    return f"{function.name}.{function.namespace}" if function.namespace else function.name
