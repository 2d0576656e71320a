"""One function in the foreground, without a gateway: built into this client's cache, run as a replica is, on a port."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.bundle_build import BundleBuild
from builder.context import BuildConfig
from builder.images import image_name
from builder.store import BundleStore
from builder.templates import PROJECT_FOLDER, Templates
from builder.worker import EXPECTED
from cli.build import pack, template_of
from cli.errors import CliError, Misuse
from cli.gate import cache_folder
from cli.stack import StackFunction
from orchestration.bundle import Bundle, Listens
from orchestration.command import MissingProgram, default_environment, fill, places
from orchestration.names import DEFAULT_NAMESPACE

SECRETS_FOLDER = Path(".secrets")
LOOPBACK = "127.0.0.1"
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0


@dataclass(frozen=True)
class Ready:
    """A running function: its process and the URL at which it answers."""

    process: subprocess.Popen[bytes]
    url: str


class _Notes:
    """Collects what a build says, to be shown when it fails."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self.log = told

    def names(self, image: str) -> None:
        return None


def build_here(function: StackFunction, copies: tuple[str, ...], told: Callable[[str], None]) -> tuple[Bundle, BundleStore]:
    """Build the function into this client's own store. Raises Misuse, and CliError when it cannot be built."""
    template = template_of(function)
    root = cache_folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = BundleStore(root)
    build = BundleBuild(store, Templates(project=PROJECT_FOLDER), _Notes(told))
    with tempfile.TemporaryFile() as tar:
        pack(tar, function, template, copies, BuildConfig(image=image_name(f"local/{function.name}")))
        try:
            return build.run(tar), store
        except EXPECTED as error:
            raise CliError(f"{function.name}: not built: {error}") from None


@contextlib.contextmanager
def running(
    function: StackFunction, bundle: Bundle, store: BundleStore, *, port: int, secrets: Path = SECRETS_FOLDER
) -> Iterator[Ready]:
    """The function as a process that answers on the port (0: any free one), ended at the end of the context.

    Raises Misuse for a port that is taken or a secret that is not in the folder `secrets`, CliError when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="faas-run-") as folder, contextlib.ExitStack() as files:
        try:
            names = places(bundle, store)
        except MissingProgram as error:
            raise CliError(f"{function.name}: {error}") from None
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        mounted = _secrets(function, secrets, Path(folder) / "secrets")
        listener = files.enter_context(_listen(port))
        port = listener.getsockname()[1]
        reading, writing = os.pipe()
        files.callback(os.close, reading)
        environment = default_environment(bundle, names, temporary=str(temporary), env_process=function.fprocess or None)
        environment |= function.environment
        environment |= {
            "OPENFAAS_NAME": function.name,
            "OPENFAAS_NAMESPACE": function.namespace or DEFAULT_NAMESPACE,
            "PINNACE_NOTIFY_FD": str(writing),
            "secret_mount_path": str(mounted),
        }
        if bundle.listens is Listens.PORT:
            listener.close()
            environment["PORT"] = str(port)
            handed: tuple[int, ...] = (writing,)
        else:
            environment["PINNACE_LISTEN_FD"] = str(listener.fileno())
            handed = (writing, listener.fileno())
        try:
            process = subprocess.Popen(
                [fill(word, names) for word in bundle.command],
                cwd=names["code"],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=handed,
                start_new_session=True,
            )
        except OSError as error:
            raise CliError(f"{function.name}: cannot run {bundle.command[0]}: {error.strerror}") from None
        finally:
            os.close(writing)
            listener.close()
        try:
            _wait_ready(function.name, process, reading, port if bundle.listens is Listens.PORT else None)
            yield Ready(process, f"http://{LOOPBACK}:{port}")
        finally:
            _end(process)


def _wait_ready(name: str, process: subprocess.Popen[bytes], notify: int, port: int | None) -> None:
    """Return when it says that it is ready, or accepts connections at `port`. Raises CliError when it ends instead."""
    deadline = time.monotonic() + READY_WITHIN_S
    said = b""
    while time.monotonic() < deadline:
        if select.select([notify], [], [], 0.02)[0]:
            data = os.read(notify, 1 << 16)
            said += data
            if said.endswith(b"\n"):
                message = json.loads(said)
                if message.get("ready"):
                    return
                raise CliError(f"{name}: {message.get('failed') or 'it did not start'}")
            if not data:
                time.sleep(0.02)
        if process.poll() is not None:
            raise CliError(f"{name}: it ended with code {process.returncode} before it was ready")
        if port is not None:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
                return
    raise CliError(f"{name}: not ready within {READY_WITHIN_S:g} s")


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Misuse(f"port {port}: {error.strerror}; --port 0 takes a free one") from None
    return listener


def _secrets(function: StackFunction, source: Path, destination: Path) -> Path:
    """Copy the function's secrets, and no others, to a folder of their own."""
    destination.mkdir(mode=0o700)
    for name in function.secrets:
        file = source / name
        if not file.is_file():
            raise Misuse(f"{function.name}: there is no {file}, which holds the secret {name} for a local run")
        shutil.copyfile(file, destination / name)
        (destination / name).chmod(0o400)
    return destination


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it finish its calls, then end what is left of its session."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C does not wait
            process.wait(STOP_WITHIN_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
