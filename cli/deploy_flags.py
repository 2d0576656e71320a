"""The options of commands that deploy (`faas deploy`, `faas up`), and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from cli.options import gateway_options, name_values, namespace_option, seconds
from cli.selection import Asked, Changes
from cli.stack_flags import ENVSUBST, LANG, SELECTING, TESTING, VERBOSE, longest_tests_s

DURATION_KEY = "com.pinnace.rollout.duration"
"""`orchestration.gradual.DURATION_KEY`, without what that imports."""

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    *SELECTING,
    LANG,
    click.option("--image", metavar="IMAGE", default="", help="Deploy this image, which has been built; needs --name."),
    click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="An environment variable; wins over the stack file."),
    click.option("--label", "-l", multiple=True, metavar="NAME=VALUE", help="A label."),
    click.option("--annotation", multiple=True, metavar="NAME=VALUE", help="An annotation."),
    click.option("--secret", multiple=True, metavar="NAME", help="A secret that the function may read."),
    click.option("--constraint", multiple=True, metavar="TEXT", help="A placement constraint, where the platform has any."),
    click.option("--memory-limit", metavar="SIZE", help="The most memory, such as 128Mi."),
    click.option("--cpu-limit", metavar="CPU", help="The most CPU, such as 500m."),
    click.option("--memory-request", metavar="SIZE", help="Memory to reserve."),
    click.option("--cpu-request", metavar="CPU", help="CPU to reserve."),
    click.option(
        "--fprocess",
        metavar="COMMAND",
        default="",
        help="The command of a function that runs one (bash, binary); other templates serve handlers themselves.",
    ),
    click.option("--readonly", is_flag=True, help="A file system that cannot be written to, but for /tmp."),
    click.option("--replace", is_flag=True, help="Remove the function first, instead of a rolling update."),
    click.option(
        "--update",
        type=bool,
        is_flag=False,
        flag_value="true",
        default="true",
        metavar="BOOL",
        help="Update a function that exists. Default: true; --update=false only creates.",
    ),
    click.option("--no-traffic", is_flag=True, help="Calls stay where they go now; faas promote or faas traffic moves them."),
    click.option("--tag", metavar="TAG", default="", help="Let TAG address the new revision: /function/NAME--TAG."),
    click.option(
        "--gradual", metavar="TIME", default="", help="Move calls to the new revision in steps over TIME, such as 10m."
    ),
    click.option(
        "--wait/--no-wait",
        default=None,
        help="Wait until the functions are ready; the default. --wait, where it is given, also follows gradual rollouts to"
        " their end, for twice their time at most; the exit code is 1 when one is given up.",
    ),
    click.option("--timeout", default="130s", show_default=True, metavar="TIME", help="Longest wait for one to become ready."),
    click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="How many to build at a time."),
    ENVSUBST,
    VERBOSE,
    *TESTING,
    namespace_option,
    gateway_options,
)


def deploy_options(command: Command) -> Command:
    """Add the options of a deploy to a command that takes them as keyword arguments, for `DeployFlags`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class DeployFlags:
    """The values of `deploy_options`, by their names."""

    file: str
    glob: str
    regex: str
    name: str
    lang: str
    image: str
    env: tuple[str, ...]
    label: tuple[str, ...]
    annotation: tuple[str, ...]
    secret: tuple[str, ...]
    constraint: tuple[str, ...]
    memory_limit: str | None
    cpu_limit: str | None
    memory_request: str | None
    cpu_request: str | None
    fprocess: str
    readonly: bool
    replace: bool
    update: bool
    no_traffic: bool
    tag: str
    gradual: str
    wait: bool | None
    timeout: str
    parallel: int
    envsubst: bool
    verbose: bool
    skip_tests: bool
    test_timeout: str
    namespace: str
    gateway: str | None
    tls_no_verify: bool

    @classmethod
    def of(cls, values: dict[str, Any]) -> DeployFlags:
        """Return the flags among the keyword arguments of a command."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def waits(self) -> bool:
        """Whether to wait until functions are ready."""
        return self.wait is not False

    @property
    def follows(self) -> bool:
        """Whether to follow gradual rollouts to their end."""
        return self.wait is True and not self.no_traffic

    @property
    def timeout_s(self) -> float:
        """The longest wait for a function to become ready. Raises Misuse."""
        return seconds(self.timeout, "--timeout")

    @property
    def test_timeout_s(self) -> float | None:
        """The longest that the tests of one function may take, None when they are not to run. Raises Misuse."""
        return longest_tests_s(skip=self.skip_tests, timeout=self.test_timeout)

    def _gradually(self) -> dict[str, str]:
        if not self.gradual:
            return {}
        seconds(self.gradual, "--gradual")
        return {DURATION_KEY: self.gradual}

    def asked(self, path: str) -> Asked:
        """Return which functions are meant."""
        return Asked(path, self.file, self.image, self.name, self.lang, self.glob, self.regex, self.envsubst)

    def changes(self) -> Changes:
        """Return what the command line changes in each function. Raises Misuse."""
        return Changes(
            environment=name_values(self.env, "--env"),
            labels=name_values(self.label, "--label"),
            annotations=name_values(self.annotation, "--annotation") | self._gradually(),
            limits=_resources(self.memory_limit, self.cpu_limit),
            requests=_resources(self.memory_request, self.cpu_request),
            secrets=self.secret,
            constraints=self.constraint,
            fprocess=self.fprocess,
            namespace=self.namespace,
            readonly=self.readonly,
        )


def _resources(memory: str | None, cpu: str | None) -> dict[str, str]:
    return {key: value for key, value in (("memory", memory), ("cpu", cpu)) if value}
