"""What a replica's process gets: its command, environment, files, user, limits and view of the file system.

The keeper makes the process; this module writes the plan and prepares what the plan names: the listening socket, the
pipes, a folder of its own, a cgroup. A zygote is started by such a plan, too, and its forks are handed the same things:
each has a room (`rooms`), a cgroup and a folder for /tmp that are there before it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from orchestration.bundle import Bundle, BundleSource, Listens
from orchestration.command import fill, places
from orchestration.local.cgroups import CgroupFailed, Cgroups, ReplicaCgroup
from orchestration.local.data_folder import DataFolder
from orchestration.local.environment import HOSTNAME_VARIABLE, environment
from orchestration.local.failures import StorageError
from orchestration.local.isolation import SECRETS_FOLDER, TEMPORARY, Isolation, Place, program_folders
from orchestration.local.keeper.child import LISTEN_FD, NOTIFY_FD
from orchestration.local.keeper_link import KeeperLink, KeptProcess, Mounts, SecretFiles, SpawnFailed, SpawnPlan
from orchestration.local.limits import limits_of, rlimits
from orchestration.local.logs import Logs
from orchestration.local.ports import LOOPBACK, Ports
from orchestration.local.rooms import ROOMS_INSIDE, Room, Rooms, own_folder
from orchestration.local.secret_store import SecretStore
from orchestration.local.stems import StemKey, Stems, can_share
from orchestration.names import FunctionId
from orchestration.replica import Endpoint
from orchestration.revision import Revision
from orchestration.settings import wants_zygote
from orchestration.starts import Kind

BACKLOG = 4096
LOOP_TEMPLATE = "python3-asgi"  # its handlers import asyncio in any case
RUNTIMES_OWN_PROGRAM = "{runtime}/pinnace_runtime/__main__.py"
ROOMS = "rooms"


class LaunchFailed(Exception):
    """A process could not be started; the message is one line for people."""


class Launched(msgspec.Struct):
    """A started process. `notify` is the read end of its notify pipe; the owner closes it. `user` is its uid, None for ours.

    `kind` is what it is made of. A fork of a zygote has a `room`.
    """

    process: KeptProcess
    endpoint: Endpoint
    notify: int
    cgroup: ReplicaCgroup | None
    user: int | None = None
    kind: Kind = "exec"
    room: Room | None = None


class LaunchedZygote(msgspec.Struct):
    """A started zygote. `notify` is the read end of its notify pipe; the owner closes it. `rooms` are for its forks."""

    process: KeptProcess
    notify: int
    user: int | None
    rooms: Rooms


class _Prepared(msgspec.Struct, frozen=True):
    """What a process is made of. `port` is the TCP port that it is to listen on, 0 for a socket that it inherits.

    `stem` tells of which stem it can be a fork; a zygote has `rooms`.
    """

    plan: SpawnPlan
    cgroup: ReplicaCgroup | None
    port: int = 0
    stem: StemKey | None = None
    rooms: Rooms | None = None


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
        stems: Stems,
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
        self._littered: set[str] = set()  # replicas with folders or a cgroup of their own, as forks of zygotes have not
        self._stems = stems

    async def output(self, replica: str, within_s: float) -> str:
        """Return the last line that the replica's ended process wrote; `within_s` bounds the wait for it."""
        await self._logs.drained(replica, within_s)
        return self._logs.last_line(replica)

    def prepared(self, revision: Revision) -> bool:
        return True

    async def prepare(self, revision: Revision) -> None:
        """A plain process needs nothing to be there before it."""

    async def start(self, revision: Revision, replica: str) -> Launched:
        """Start one process of the revision for the replica of that id. Raises LaunchFailed."""
        secrets = await self._secrets_of(revision)
        with _explained() as started:
            prepared = await asyncio.to_thread(self._prepare, revision, replica, secrets)
            started.plan = prepared.plan
            name = f"{next(self._numbers):x}"
            with contextlib.ExitStack() as handed, contextlib.ExitStack() as kept:
                listener: list[int] = []
                endpoint = Endpoint(host=LOOPBACK, port=prepared.port)
                if not prepared.port:
                    endpoint, *listener = self._listener(name, kept, handed)
                notify, says = _pipe(kept, handed)
                outputs = self._outputs(revision, replica, handed)
                process, kind = await self._make(f"{replica}/{name}", prepared, (*outputs, *listener, says))
                kept.pop_all()
            return Launched(process, endpoint, notify, prepared.cgroup, prepared.plan.uid, kind)

    def cannot_fork(self, revision: Revision) -> str | None:
        """Return None where the revision's program can be a zygote, as our Python runtime can, else why not.

        That is empty for programs of other kinds. Reads the disk.
        """
        bundle = self._bundles.resolve(revision.bundle)
        return _cannot_fork(bundle, places(bundle, self._bundles))

    async def start_zygote(self, revision: Revision, name: str) -> LaunchedZygote:
        """Start a process that imports the revision's handler and forks its replicas. Raises LaunchFailed."""
        secrets = await self._secrets_of(revision)
        with _explained() as started:
            prepared = await asyncio.to_thread(self._prepare, revision, name, secrets, zygote=True)
            started.plan = prepared.plan
            with contextlib.ExitStack() as handed, contextlib.ExitStack() as kept:
                notify, says = _pipe(kept, handed)
                process, _ = await self._make(name, prepared, (*self._outputs(revision, name, handed), says))
                kept.pop_all()
            assert prepared.rooms is not None
            return LaunchedZygote(process, notify, prepared.plan.uid, prepared.rooms)

    async def fork(self, zygote: LaunchedZygote, room: Room, revision: Revision, replica: str) -> Launched:
        """Have the zygote fork one process for the replica of that id. Raises LaunchFailed."""
        with _explained(), contextlib.ExitStack() as handed, contextlib.ExitStack() as kept:
            name = f"{next(self._numbers):x}"
            temporary = ""
            if not room.inside:
                folder = self._folder.replicas / replica / "tmp"
                own_folder(folder, zygote.user)
                self._littered.add(replica)
                temporary = str(folder)
            endpoint, listener = self._listener(name, kept, handed)
            notify, says = _pipe(kept, handed)
            files = (*self._outputs(revision, replica, handed), listener, says)
            process = await self._keeper.fork(
                f"{replica}/{name}",
                zygote.process.identity,
                files,
                room=room.inside,
                temporary=temporary,
                hostname="" if HOSTNAME_VARIABLE in revision.env_vars else replica,
            )
            kept.pop_all()
        return Launched(process, endpoint, notify, room.cgroup, zygote.user, "zygote", room)

    async def _make(self, identity: str, prepared: _Prepared, fds: tuple[int, ...]) -> tuple[KeptProcess, Kind]:
        """Make the process: a fork of the stem where there is one, else by an exec. Raises SpawnFailed."""
        stem = self._stems.get(prepared.stem) if prepared.stem is not None else None
        if stem is not None and prepared.stem is not None:
            try:
                return await self._keeper.fork_planned(identity, stem.identity, prepared.plan, fds), "stem"
            except SpawnFailed:
                self._stems.drop(prepared.stem)
        return await self._keeper.spawn(identity, prepared.plan, fds), "exec"

    async def _secrets_of(self, revision: Revision) -> dict[str, bytes]:
        with _explained():
            secrets = await self._secrets.values(revision.namespace, revision.secrets)
            if missing := sorted(set(revision.secrets) - set(secrets)):
                raise LaunchFailed(f"secret {', '.join(missing)} does not exist in namespace {revision.namespace!r}")
            return secrets

    def _listener(self, name: str, kept: contextlib.ExitStack, handed: contextlib.ExitStack) -> tuple[Endpoint, int]:
        """Listen on a socket of that name. `handed` are files that only the process needs, `kept` is undone when it fails."""
        path = self._run_dir / f"{name}.sock"
        listener = handed.enter_context(_listen(path))
        kept.callback(path.unlink, missing_ok=True)
        return Endpoint(unix=str(path)), listener.fileno()

    def _outputs(self, revision: Revision, instance: str, handed: contextlib.ExitStack) -> tuple[int, int]:
        """Return pipes for stdout and stderr, whose other ends are the logs'."""
        with contextlib.ExitStack() as read:
            (out, stdout), (err, stderr) = _pipe(read, handed), _pipe(read, handed)
            read.pop_all()  # from here on the logs own them
        self._logs.attach(FunctionId(revision.namespace, revision.function), instance, (out, err))
        return stdout, stderr

    def ended(self, launched: Launched) -> None:
        """Take away what was the process's own."""
        os.close(launched.notify)
        if launched.endpoint.unix:
            Path(launched.endpoint.unix).unlink(missing_ok=True)

    async def gone(self, replica: str) -> None:
        """Take away what was the replica's own, when none of its processes is left."""
        if replica in self._littered:
            await asyncio.to_thread(self._clean, replica)
            self._littered.discard(replica)
        self._logs.forget(replica)

    def _clean(self, replica: str) -> None:
        shutil.rmtree(self._folder.replicas / replica, ignore_errors=True)
        shutil.rmtree(self._run_dir / replica, ignore_errors=True)
        if self._cgroups is not None:
            self._cgroups.remove(replica)

    def _prepare(self, revision: Revision, replica: str, secrets: dict[str, bytes], *, zygote: bool = False) -> _Prepared:
        self._littered.add(replica)
        bundle = self._bundles.resolve(revision.bundle)
        names = places(bundle, self._bundles)
        port = self._ports.free() if bundle.listens is Listens.PORT else 0
        files = {"PINNACE_LISTEN_FD": str(LISTEN_FD), "PINNACE_NOTIFY_FD": str(NOTIFY_FD)}
        if port:
            files = {"PORT": str(port), "PINNACE_NOTIFY_FD": str(LISTEN_FD)}
        uid = self._user_of(FunctionId(revision.namespace, revision.function)) if self._isolation.users else None
        temporary = self._folder.replicas / replica / "tmp"
        own_folder(temporary, uid)
        limits = limits_of(revision)
        cgroup = self._cgroups.create(replica, limits) if self._cgroups is not None else None
        mounts = None
        rooms_folder: Path | None = None
        below_temporary: list[str] = []
        secrets_folder = SECRETS_FOLDER
        if self._isolation.mounts:
            folders = [names["runtime"], names["dependencies"], names["code"]]
            needed = [*(name for name in folders if name not in ("", "/")), *program_folders(names.get("node", ""))]
            place = Place.of([*needed, names["python"]], interpreter=names["python"])
            binds = [(str(temporary), TEMPORARY, False), *((path, path, True) for path in place.shown)]
            if zygote:
                rooms_folder = temporary.parent / ROOMS
                own_folder(rooms_folder / "0", uid)  # a trial's
                rooms_folder.chmod(0o711)
                binds.insert(1, (str(rooms_folder), ROOMS_INSIDE, False))
                below_temporary = [path for path in place.shown if path.startswith(f"{TEMPORARY}/")]
                files["PINNACE_ROOMS"] = ROOMS_INSIDE
                files["PINNACE_SHOWN"] = os.pathsep.join(below_temporary)
            mounts = Mounts(
                covers=place.covers,
                binds=tuple(binds),
                secrets=SecretFiles(SECRETS_FOLDER, secrets),
                read_only_root=revision.read_only_root_filesystem,
            )
        else:
            secrets_folder = str(self._run_dir / replica)
            _write_secrets(Path(secrets_folder), secrets, uid)
        if zygote:
            files["PINNACE_ZYGOTE_FD"] = files.pop("PINNACE_LISTEN_FD")
        plan = SpawnPlan(
            argv=tuple(fill(argument, names) for argument in bundle.command),
            env=environment(
                revision,
                bundle,
                names,
                instance=self._instance,
                hostname=replica,
                temporary=TEMPORARY if mounts is not None else str(temporary),
                secrets=secrets_folder,
                files=files,
            ),
            cwd=names["code"],
            cgroups=cgroup.folders if cgroup is not None else (),
            rlimits=rlimits(limits, cgroup),
            mounts=mounts,
            uid=uid,
            gid=uid,
            zygote=zygote,
        )
        stem = None
        if (
            _cannot_fork(bundle, names) is None
            and wants_zygote(revision.labels, revision.annotations)
            and can_share([*revision.env_vars, *bundle.env])
        ):
            stem = StemKey(revision.namespace, names["python"], names["runtime"], bundle.command[-1] == LOOP_TEMPLATE)
        rooms = None
        if zygote:
            rooms = Rooms(replica, rooms_folder, uid=uid, shown=below_temporary, cgroups=self._cgroups, limits=limits)
        return _Prepared(plan, cgroup, port, stem, rooms)


def _cannot_fork(bundle: Bundle, names: dict[str, str]) -> str | None:
    if RUNTIMES_OWN_PROGRAM not in bundle.command[-2:-1]:
        return ""
    known = (Path(names["runtime"]) / "pinnace_runtime" / "fork_server.py").is_file()
    return None if known else "its runtime is an old one: deploy it again"


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


class _Started:
    """What was being started: a failure is told in its words."""

    plan: SpawnPlan | None = None


@contextlib.contextmanager
def _explained() -> Iterator[_Started]:
    """Turn what goes wrong into LaunchFailed."""
    started = _Started()
    try:
        yield started
    except SpawnFailed as failure:
        if failure.step == "program" and started.plan is not None:
            raise LaunchFailed(f"cannot run {started.plan.argv[0]!r}: {failure.text}") from None
        raise LaunchFailed(f"cannot start ({failure.step}): {failure.text}") from None
    except (OSError, LookupError, CgroupFailed, StorageError) as error:
        raise LaunchFailed(f"cannot start: {error}") from None
