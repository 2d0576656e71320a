"""A function's own tests before its deploy, on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from builder.templates import Template
from cli.build import assembled
from cli.errors import CliError
from cli.stack import StackFunction


class TestsStopped(CliError):
    """The function is not deployed because of its tests. `output` is what they wrote."""

    __test__ = False

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def cache_folder() -> Path:
    """Return where this client keeps what can be made again: `$XDG_CACHE_HOME/pinnace`, `~/.cache/pinnace`."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".cache") / "pinnace"


def run_tests(
    function: StackFunction,
    copies: tuple[str, ...],
    template: Template,
    told: Callable[[str], None],
    time_limit_s: float,
) -> str | None:
    """Run the function's tests and return what they wrote, None for a function without any; `told` gets what pip or npm says.

    Raises TestsStopped when they fail, or cannot be run.
    """
    from builder.own_tests import has_tests

    with assembled(function, copies) as folder:
        if not has_tests(folder, template):
            return None
        from builder.gate import Gate, TestsFailed
        from builder.node_dependencies import NodeDependenciesFailed
        from builder.requirements import InvalidRequirements
        from builder.store import BundleQuotaExceeded, BundleStore
        from builder.wheelhouse import DependenciesFailed

        root = cache_folder()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        gate = Gate(BundleStore(root), told, environment={**os.environ, **function.environment}, time_limit_s=time_limit_s)
        try:
            return gate.run(folder, template)
        except TestsFailed as failure:
            raise TestsStopped(f"{function.name}: {failure}; nothing was deployed", failure.output) from None
        except (DependenciesFailed, NodeDependenciesFailed, InvalidRequirements, BundleQuotaExceeded) as error:
            raise TestsStopped(f"{function.name}: its packages cannot be installed for its tests: {error}", "") from None
