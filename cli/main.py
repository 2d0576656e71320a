"""The command `faas`: finds the subcommand, runs it, and turns every failure into one line and an exit code.

Subcommands are imported when they run: `faas --help` imports none of them, and so takes little more than Python itself.
"""

from __future__ import annotations

import sys

try:
    import gc
    import importlib
    import io
    import os
    from collections.abc import Sequence
    from typing import NamedTuple

    import click

    from cli.errors import FAILED, INTERRUPTED, CliError
except KeyboardInterrupt:  # most of a short command's time is this
    sys.exit(130)


class Entry(NamedTuple):
    """Where a subcommand lives (`module:attribute`) and its line in `faas --help`."""

    target: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Functions": {
        "new": Entry("cli.commands.new:new", "Make a function from a template."),
        "deploy": Entry("cli.commands.deploy:deploy", "Build and deploy functions and wait until they answer."),
        "up": Entry("cli.commands.up:up", "Build and deploy functions, again at each save with --watch."),
        "build": Entry("cli.commands.build:build", "Build container images of functions, without a gateway."),
        "push": Entry("cli.commands.push:push", "Push images that were built here to their registries."),
        "publish": Entry("cli.commands.publish:publish", "Build images and push them, here or with a remote builder."),
        "generate": Entry("cli.commands.generate:generate", "Write Function resources for kubectl and GitOps."),
        "local-run": Entry("cli.commands.local_run:local_run", "Run one function here, without a gateway."),
        "list": Entry("cli.commands.list:list_functions", "List functions."),
        "describe": Entry("cli.commands.describe:describe", "Show everything about one function."),
        "invoke": Entry("cli.commands.invoke:invoke", "Call a function."),
        "async": Entry("cli.commands.asynchronous:asynchronous", "Asynchronous calls: list, read, cancel, replay, watch."),
        "event": Entry("cli.commands.event:event", "CloudEvents: send one, see who would get it."),
        "top": Entry("cli.commands.top:top", "Watch what functions do."),
        "logs": Entry("cli.commands.logs:logs", "Show what a function wrote."),
        "scale": Entry("cli.commands.scale:scale", "Set how many replicas a function has now."),
        "simulate": Entry("cli.commands.simulate:simulate", "Replay calls against scaling settings, and compare."),
        "revisions": Entry("cli.commands.traffic:revisions", "List the revisions of a function."),
        "traffic": Entry("cli.commands.traffic:traffic", "Show or set which share of the calls goes to which revision."),
        "promote": Entry("cli.commands.traffic:promote", "Send all calls to the newest revision."),
        "rollback": Entry("cli.commands.traffic:rollback", "Send all calls back to an older revision."),
        "remove": Entry("cli.commands.remove:remove", "Remove functions."),
        "explain": Entry("cli.commands.explain:explain", "Say where one call's time went."),
        "ready": Entry("cli.commands.ready:ready", "Wait until the gateway or a function is ready."),
    },
    "What functions need": {
        "secret": Entry("cli.commands.secret:secret", "Create, update, list and remove secrets."),
        "namespace": Entry("cli.commands.namespace:namespace", "Create, update, list and remove namespaces."),
        "template": Entry("cli.commands.template:template", "Languages to write functions in."),
    },
    "The gateway": {
        "serve": Entry("cli.commands.serve:serve", "Run the platform on this machine."),
        "builder": Entry("cli.commands.builder:builder", "Run only the build API: images for clusters."),
        "platform-image": Entry("cli.commands.platform_image:platform_image", "Build the platform's own image, for clusters."),
        "backup": Entry("cli.commands.backup:backup", "Write the platform's state to one file."),
        "restore": Entry("cli.commands.backup:restore", "Make a data folder from a backup."),
        "dashboard": Entry("cli.commands.dashboard:dashboard", "Open the gateway's page in a browser."),
        "login": Entry("cli.commands.login:login", "Log in to a gateway."),
        "logout": Entry("cli.commands.login:logout", "Forget the login of a gateway."),
        "version": Entry("cli.commands.version:version", "Show the versions of this client and the gateway."),
        "completion": Entry("cli.commands.completion:completion", "Print a script that completes commands in a shell."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
ALIASES = {"ls": "list", "rm": "remove"}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not gc.isenabled():  # see main
            gc.freeze()
            gc.enable()
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and args[0] not in ALIASES and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], [*COMMANDS, *ALIASES], n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "'faas --help' lists them."
            raise click.UsageError(f"No such command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()], col_spacing=4)


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from cli.commands.version import own_version

        click.echo(f"faas {own_version()}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong command line or file, 3 no gateway answers, 4 not logged in.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show this client's version."
)
def faas() -> None:
    """Make, deploy, call and watch functions on Pinnace, or on any OpenFaaS gateway."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `faas` and end the process with the command's exit code."""
    gc.disable()  # until the subcommand is imported: what that makes stays, and looking through it is a fifth of a build
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a function wrote may be more than the terminal can show
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `faas` and return its exit code; failures are told on stderr. `FAAS_DEBUG=1` lets unexpected ones through."""
    debug = os.environ.get("FAAS_DEBUG", "") not in ("", "0")
    try:
        result = faas.main(arguments, prog_name="faas", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CliError as error:
        return _report(str(error), error.exit_code)
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _report(f"{where}{error.strerror or error}", FAILED)
    except Exception as error:
        if debug:
            raise
        return _report(f"{type(error).__name__}: {error} (a bug of faas; FAAS_DEBUG=1 shows where)", FAILED)


def _report(message: str, code: int) -> int:
    click.echo(f"{click.style('Error:', fg='red') if _colored() else 'Error:'} {message}", err=True)
    return code


def _colored() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
