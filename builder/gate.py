"""A function's own tests, run before it is built: `test_*.py` and `*_test.py`, or `npm test` where package.json has one.

They run where the command is typed, with the rights of who types it, because it is their code on their machine. The
platform never runs them: its builds work as the platform's user, and a stranger's tests there would too. The function is
copied, so that nothing is left in its folder, and finds its packages and its files as it does in a replica.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from builder import gate_runner
from builder.dependencies import Dependencies
from builder.ignore import always_ignored
from builder.node_dependencies import MODULES, NodeDependencies
from builder.requirements import read_requirements
from builder.store import BundleStore
from builder.templates import HANDLER_FOLDER, Template
from orchestration.bundle import Layer
from orchestration.interpreter import base_interpreter

TIME_LIMIT_S = 300.0
FOUND_WITHIN_S = 30.0
OWN_PYTEST = "lib/python*/site-packages/pytest-*.dist-info"
OUTPUT_KEPT_BYTES = 256 << 10


class TestsFailed(RuntimeError):
    """The tests did not pass, or took too long; the message is one line. `output` is what they wrote."""

    __test__ = False  # it is no test itself

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class _Outcome(msgspec.Struct, frozen=True):
    code: int
    output: str


class Gate:
    """Runs tests of functions. `store` keeps their installed packages, `log` gets what installing them says.

    `environment` is what the tests find in their environment. Nobody but the caller waits for them: `time_limit_s`
    bounds the tests of one function.
    """

    def __init__(
        self,
        store: BundleStore,
        log: Callable[[str], None],
        *,
        environment: Mapping[str, str] = os.environ,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._store = store
        self._log = log
        self._environment = environment
        self._time_limit_s = time_limit_s

    def run(self, function: Path, template: Template) -> str:
        """Run the tests of the function in the folder and return what they wrote.

        Raises TestsFailed, and what installing its packages raises.
        """
        layer = self._packages(function, template)
        with tempfile.TemporaryDirectory(prefix="faas-test-") as folder:
            code = Path(folder).resolve()
            if not template.built_in:
                _copy(template.folder, code, leave_out=template.skeleton)
            _copy(function, code / HANDLER_FOLDER)
            if template.dependencies == "node":
                outcome = self._npm(code / HANDLER_FOLDER, self._store.folder(layer))
            else:
                outcome = self._python(code, self._store.folder(layer))
        if outcome.code == gate_runner.NEEDS_PYTEST:
            raise TestsFailed(
                "its tests are written for pytest, which is neither in its requirements nor on this machine: "
                "pip install pytest, or --skip-tests",
                outcome.output,
            )
        if outcome.code not in (0, gate_runner.NO_TESTS):
            raise TestsFailed("its tests failed", outcome.output)
        return outcome.output

    def _packages(self, function: Path, template: Template) -> Layer:
        if template.dependencies == "node":
            return NodeDependencies(self._store, self._log, development=True).layer(function)
        requirements = read_requirements(function)
        if not template.built_in:
            requirements = read_requirements(template.folder) + requirements
        return Dependencies(self._store, self._log).layer(requirements)

    def _python(self, code: Path, layer: Path) -> _Outcome:
        package = code / HANDLER_FOLDER / "__init__.py"
        if not package.exists():
            package.touch()  # `from . import handler` works in a replica without it
        borrowed = [] if any(layer.glob(OWN_PYTEST)) else _folders_with_pytest()
        command = [str(layer / "bin" / "python"), "-I", "-B", gate_runner.__file__, str(code), *borrowed]
        return self._run(command, code, {})

    def _npm(self, function: Path, layer: Path) -> _Outcome:
        (function / MODULES).symlink_to(layer / MODULES)
        npm = shutil.which("npm")
        if npm is None:
            raise TestsFailed("npm is not on this machine: apt-get install npm, or --skip-tests", "")
        return self._run([npm, "test"], function, {"NO_COLOR": "1", "NO_UPDATE_NOTIFIER": "1"})

    def _run(self, command: list[str], folder: Path, extra: dict[str, str]) -> _Outcome:
        environment = {**self._environment, **extra}
        deadline = time.monotonic() + self._time_limit_s
        output = bytearray()
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        ) as process:
            assert process.stdout is not None
            try:
                while (left_s := deadline - time.monotonic()) > 0:
                    if not select.select([process.stdout], [], [], left_s)[0]:
                        break
                    if not (data := process.stdout.read(1 << 16)):
                        break
                    output += data
                    del output[:-OUTPUT_KEPT_BYTES]
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            finally:
                late = process.poll() is None
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        text = output.decode(errors="replace").strip()
        if late:
            raise TestsFailed(f"its tests took longer than {self._time_limit_s:g} s", text)
        return _Outcome(process.returncode, text)


def _copy(source: Path, destination: Path, *, leave_out: Path | None = None) -> None:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if always_ignored(name) or Path(folder, name) == leave_out]

    shutil.copytree(source, destination, symlinks=True, dirs_exist_ok=True, ignore=ignored)


def _folders_with_pytest() -> list[str]:
    """Return where this machine's pytest and what it needs are installed; empty without one for functions' Python.

    Raises TestsFailed when that Python does not say.
    """
    spec = importlib.util.find_spec("pytest")
    if spec is not None and spec.origin:
        return [str(Path(spec.origin).parent.parent)]
    if sys.prefix == sys.base_prefix:
        return []
    look = "import importlib.util as u; s = u.find_spec('pytest'); print(s.origin if s else '')"
    python = base_interpreter()
    advice = "add pytest to the function's requirements, or --skip-tests"
    try:
        done = subprocess.run([python, "-c", look], capture_output=True, text=True, timeout=FOUND_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise TestsFailed(f"{python} does not say within {FOUND_WITHIN_S:g} s whether it has pytest: {advice}", "") from None
    except OSError as error:
        raise TestsFailed(f"{python} cannot say whether it has pytest ({error.strerror}): {advice}", "") from None
    origin = done.stdout.strip()
    return [str(Path(origin).parent.parent)] if origin else []
