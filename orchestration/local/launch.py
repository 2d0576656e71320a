"""What a replica's process gets: its command, environment, files, user, limits and view of the file system.

The keeper makes the process; this module writes the plan and prepares what the plan names: the listening socket, the
pipes, a folder of its own, a cgroup. A process made in another way (forked from one that has the code loaded) would
get the same things.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from orchestration.bundle import Bundle, BundleSource, Listens
from orchestration.command import default_environment, fill, places
from orchestration.local.cgroups import CgroupFailed, Cgroups, ReplicaCgroup
from orchestration.local.data_folder import DataFolder
from orchestration.local.failures import StorageError
from orchestration.local.isolation import SECRETS_FOLDER, Isolation, Place, program_folders
from orchestration.local.keeper.child import LISTEN_FD, NOTIFY_FD
from orchestration.local.keeper_link import KeeperLink, KeptProcess, Mounts, SecretFiles, SpawnFailed, SpawnPlan
from orchestration.local.limits import limits_of, rlimits
from orchestration.local.logs import Logs
from orchestration.local.ports import LOOPBACK, Ports
from orchestration.local.secret_store import SecretStore
from orchestration.names import FunctionId
from orchestration.replica import Endpoint
from orchestration.revision import Revision

BACKLOG = 4096
INSTANCE_VARIABLE = "PINNACE_INSTANCE"


class LaunchFailed(Exception):
    """A process could not be started; the message is one line for people."""


class Launched(msgspec.Struct):
    """A started process. `notify` is the read end of its notify pipe; the owner closes it. `user` is its uid, None for ours."""

    process: KeptProcess
    endpoint: Endpoint
    notify: int
    cgroup: ReplicaCgroup | None
    user: int | None = None


class _Prepared(msgspec.Struct, frozen=True):
    """What a process is made of. `port` is the TCP port that it is to listen on, 0 for a socket that it inherits."""

    plan: SpawnPlan
    cgroup: ReplicaCgroup | None
    port: int


def environment(
    revision: Revision, bundle: Bundle, names: dict[str, str], *, instance: str, temporary: str, secrets: str, port: int = 0
) -> dict[str, str]:
    """Return a replica's environment: the bundle's defaults, the function's own, and on top what the contract gives.

    `port` is the TCP port to listen on, 0 for a replica that inherits its socket.
    """
    own = default_environment(bundle, names, temporary=temporary, env_process=revision.env_process)
    own |= revision.env_vars
    socket_or_port = (
        {"PORT": str(port), "PINNACE_NOTIFY_FD": str(LISTEN_FD)}
        if port
        else {"PINNACE_LISTEN_FD": str(LISTEN_FD), "PINNACE_NOTIFY_FD": str(NOTIFY_FD)}
    )
    return own | {
        INSTANCE_VARIABLE: instance,
        **socket_or_port,
        "PINNACE_LOG_FRAMES": "1",
        "exec_timeout": f"{revision.settings.timeout_s:g}s",
        "max_inflight": str(revision.settings.concurrency),
        "OPENFAAS_NAME": revision.function,
        "OPENFAAS_NAMESPACE": revision.namespace,
        "K_SERVICE": revision.function,
        "K_CONFIGURATION": revision.function,
        "K_REVISION": revision.name,
        "secret_mount_path": secrets,
    }


class Launcher:
    """Starts processes for replicas. `user_of` maps a function to its uid, None where functions share the platform's."""

    def __init__(
        self,
        *,
        instance: str,
        folder: DataFolder,
        run_dir: Path,
        bundles: BundleSource,
        secrets: SecretStore,
        keeper: KeeperLink,
        logs: Logs,
        isolation: Isolation,
        cgroups: Cgroups | None,
        user_of: Callable[[FunctionId], int | None],
    ) -> None:
        self._instance = instance
        self._folder = folder
        self._run_dir = run_dir
        self._bundles = bundles
        self._secrets = secrets
        self._keeper = keeper
        self._logs = logs
        self._isolation = isolation
        self._cgroups = cgroups
        self._user_of = user_of
        self._numbers = itertools.count(1)
        self._ports = Ports()

    async def output(self, replica: str, within_s: float) -> str:
        """Return the last line that the replica's ended process wrote; `within_s` bounds the wait for it."""
        await self._logs.drained(replica, within_s)
        return self._logs.last_line(replica)

    async def start(self, revision: Revision, replica: str) -> Launched:
        """Start one process of the revision for the replica of that id. Raises LaunchFailed."""
        try:
            secrets = await self._secrets.values(revision.namespace, revision.secrets)
            if missing := sorted(set(revision.secrets) - set(secrets)):
                raise LaunchFailed(f"secret {', '.join(missing)} does not exist in namespace {revision.namespace!r}")
            prepared = await asyncio.to_thread(self._prepare, revision, replica, secrets)
            return await self._spawn(revision, replica, prepared)
        except SpawnFailed as failure:
            raise LaunchFailed(_explain(failure, prepared.plan)) from None
        except (OSError, LookupError, CgroupFailed, StorageError) as error:
            raise LaunchFailed(f"cannot start: {error}") from None

    async def _spawn(self, revision: Revision, replica: str, prepared: _Prepared) -> Launched:
        """Make the process. `handed` are the files that only it needs, `kept` is what is undone when it cannot be made."""
        name = f"{next(self._numbers):x}"
        with contextlib.ExitStack() as handed, contextlib.ExitStack() as kept:
            listener: tuple[int, ...] = ()
            if prepared.port:
                endpoint = Endpoint(host=LOOPBACK, port=prepared.port)
            else:
                path = self._run_dir / f"{name}.sock"
                listener = (handed.enter_context(_listen(path)).fileno(),)
                kept.callback(path.unlink, missing_ok=True)
                endpoint = Endpoint(unix=str(path))
            notify, says = _pipe(kept, handed)
            with contextlib.ExitStack() as read:
                (out, stdout), (err, stderr) = _pipe(read, handed), _pipe(read, handed)
                read.pop_all()  # from here on the logs own them
            self._logs.attach(FunctionId(revision.namespace, revision.function), replica, (out, err))
            files = (stdout, stderr, *listener, says)
            process = await self._keeper.spawn(f"{replica}/{name}", prepared.plan, files)
            kept.pop_all()
        return Launched(process, endpoint, notify, prepared.cgroup, prepared.plan.uid)

    def ended(self, launched: Launched) -> None:
        """Take away what was the process's own."""
        os.close(launched.notify)
        if launched.endpoint.unix:
            Path(launched.endpoint.unix).unlink(missing_ok=True)

    async def gone(self, replica: str) -> None:
        """Take away what was the replica's own, when none of its processes is left."""
        await asyncio.to_thread(self._clean, replica)

    def _clean(self, replica: str) -> None:
        shutil.rmtree(self._folder.replicas / replica, ignore_errors=True)
        shutil.rmtree(self._run_dir / replica, ignore_errors=True)
        if self._cgroups is not None:
            self._cgroups.remove(replica)
        self._logs.forget(replica)

    def _prepare(self, revision: Revision, replica: str, secrets: dict[str, bytes]) -> _Prepared:
        bundle = self._bundles.resolve(revision.bundle)
        names = places(bundle, self._bundles)
        port = self._ports.free() if bundle.listens is Listens.PORT else 0
        uid = self._user_of(FunctionId(revision.namespace, revision.function)) if self._isolation.users else None
        temporary = self._folder.replicas / replica / "tmp"
        _own_folder(temporary, uid)
        limits = limits_of(revision)
        cgroup = self._cgroups.create(replica, limits) if self._cgroups is not None else None
        mounts = None
        secrets_folder = SECRETS_FOLDER
        if self._isolation.mounts:
            folders = [names["runtime"], names["dependencies"], names["code"]]
            needed = [*(name for name in folders if name not in ("", "/")), *program_folders(names.get("node", ""))]
            place = Place.of([*needed, names["python"]], interpreter=names["python"])
            mounts = Mounts(
                covers=place.covers,
                binds=((str(temporary), "/tmp", False), *((path, path, True) for path in place.shown)),  # noqa: S108
                secrets=SecretFiles(SECRETS_FOLDER, secrets),
                read_only_root=revision.read_only_root_filesystem,
            )
        else:
            secrets_folder = str(self._run_dir / replica)
            _write_secrets(Path(secrets_folder), secrets, uid)
        plan = SpawnPlan(
            argv=tuple(fill(argument, names) for argument in bundle.command),
            env=environment(
                revision,
                bundle,
                names,
                instance=self._instance,
                temporary="/tmp" if mounts is not None else str(temporary),  # noqa: S108
                secrets=secrets_folder,
                port=port,
            ),
            cwd=names["code"],
            cgroups=cgroup.folders if cgroup is not None else (),
            rlimits=rlimits(limits, cgroup),
            mounts=mounts,
            uid=uid,
            gid=uid,
        )
        return _Prepared(plan, cgroup, port)


def _pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[int, int]:
    """Make a pipe, each end of which is closed by its stack."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    reads.callback(os.close, reading)
    writes.callback(os.close, writing)
    return reading, writing


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _own_folder(path: Path, uid: int | None) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o711)
    if uid is not None:
        os.chown(path, uid, uid)
    path.chmod(0o700)


def _write_secrets(folder: Path, secrets: dict[str, bytes], uid: int | None) -> None:
    """Write the files anew, readable by the function's user only; the folder's name is no secret."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, value in secrets.items():
        fd = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o400)
        with os.fdopen(fd, "wb") as file:
            file.write(value)
            if uid is not None:
                os.fchown(file.fileno(), uid, uid)
    if uid is not None:
        os.chown(folder, uid, uid)


def _explain(failure: SpawnFailed, plan: SpawnPlan) -> str:
    if failure.step == "program":
        return f"cannot run {plan.argv[0]!r}: {failure.text}"
    return f"cannot start ({failure.step}): {failure.text}"
