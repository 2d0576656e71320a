"""What can go wrong in a command, as one sentence for people and one exit code for programs.

| code | means |
|---|---|
| 0 | done |
| 1 | failed: the gateway or the function said no, or a deploy did not become ready |
| 2 | the command line, or a file it names, is not right; nothing was changed |
| 3 | no gateway answers |
| 4 | not logged in, or not allowed |
| 130 | interrupted with Ctrl-C |
"""

from __future__ import annotations

from orchestration.names import DEFAULT_NAMESPACE

FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_LOGGED_IN = 4
INTERRUPTED = 130


class CliError(Exception):
    """A failure that people are told in one sentence: the message. `exit_code` is the process's."""

    exit_code = FAILED


class Misuse(CliError):
    """The command line, or a file it names, is not right; nothing was sent."""

    exit_code = USAGE


class GatewayUnreachable(CliError):
    """No gateway answers at the address."""

    exit_code = UNREACHABLE


class NotLoggedIn(CliError):
    """The gateway wants a login, or another one."""

    exit_code = NOT_LOGGED_IN


class GatewayRefused(CliError):
    """The gateway answered with an error. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class UnknownFunction(GatewayRefused):
    """The gateway has no such function."""

    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(404, f"there is no function {name} in namespace {namespace or DEFAULT_NAMESPACE}")
