"""The options that deploys and builds of images share: which functions of a stack file are meant, and their tests."""

from __future__ import annotations

import click

from cli.options import seconds

SELECTING = (
    click.option(
        "--yaml", "-f", "file", metavar="FILE", default="", help="The stack file or its URL. Default: stack.yaml, stack.yml."
    ),
    click.option("--filter", "glob", metavar="GLOB", default="", help="Of the stack file, only names that fit."),
    click.option("--regex", metavar="REGEX", default="", help="Of the stack file, only names that fit."),
    click.option("--name", metavar="NAME", default="", help="The function's name; for a folder, the folder's name by default."),
)
LANG = click.option(
    "--lang", metavar="LANG", default="", help="The language; else the stack file's, else guessed from the handler."
)
ENVSUBST = click.option(
    "--envsubst",
    type=bool,
    is_flag=False,
    flag_value="true",
    default="true",
    metavar="BOOL",
    help="Replace ${VAR} in the stack file. Default: true; --envsubst=false leaves it.",
)
VERBOSE = click.option("--verbose", "-v", is_flag=True, help="Show what the builds write.")
TESTING = (
    click.option("--skip-tests", is_flag=True, help="Do not run the functions' own tests."),
    click.option(
        "--test-timeout", default="5m", show_default=True, metavar="TIME", help="Longest time for one function's tests."
    ),
)


def longest_tests_s(*, skip: bool, timeout: str) -> float | None:
    """Return the longest that the tests of one function may take, None when they are not to run. Raises Misuse."""
    return None if skip else seconds(timeout, "--test-timeout")
