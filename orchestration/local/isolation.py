"""What keeps functions apart here: users of their own, and mount namespaces. Probed once at start by doing it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from orchestration.interpreter import base_interpreter
from orchestration.local.failures import Unreachable
from orchestration.local.keeper_link import KeeperLink, Mounts, SecretFiles, SpawnFailed, SpawnPlan
from orchestration.local.store import NAMESPACES, USERS_PER_NAMESPACE

SECRETS_FOLDER = "/var/openfaas/secrets"
# A range that neither login users, subordinate ids nor containers are given (systemd, "Users, Groups, UIDs and GIDs").
FIRST_USER, LAST_USER = 1_879_048_192, 2_147_483_647
TEMPORARY = "/tmp"  # noqa: S108 - in the replica's own view of the file system
PROBED_WITHIN_S = 20.0


class Place(msgspec.Struct, frozen=True):
    """How paths are shown to a user who may not pass their parents: `covers` are replaced by empty folders, in which
    `shown` paths are bound again. What lies below /tmp is shown too, since a replica has a /tmp of its own."""

    covers: tuple[str, ...]
    shown: tuple[str, ...]

    @classmethod
    def of(cls, paths: Iterable[str], *, interpreter: str) -> Place:
        """Find the place for `paths` and for all that the interpreter at `interpreter` needs. Reads the disk."""
        covers, shown = [], []
        for path in dict.fromkeys([*map(os.path.realpath, paths), *interpreter_folders(interpreter)]):
            if path == TEMPORARY or path.startswith(TEMPORARY + "/"):
                shown.append(path)
            elif closed := closed_parent(path):
                covers.append(closed)
                shown.append(path)
        outer = sorted(shown, key=len)
        inner = {path for path in outer for above in outer if path.startswith(above + "/")}
        return cls(tuple(dict.fromkeys(covers)), tuple(path for path in outer if path not in inner))


def closed_parent(path: str) -> str | None:
    """Return the outermost folder above `path` that not everyone may pass, or None."""
    for folder in reversed(Path(path).parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return str(folder)
    return None


def interpreter_folders(interpreter: str) -> list[str]:
    """Return the installations that a Python passes through, from a virtual environment's link to the real program.

    `/layers/x/bin/python → /opt/py/bin/python3 → python3.11` gives `/layers/x` and `/opt/py`.
    """
    found, path = [], Path(interpreter)
    for _ in range(40):  # as many links as the kernel follows
        folder = path.parent.resolve()
        found.append(str(folder.parent if folder.name == "bin" else folder))
        path = folder / path.name
        if not path.is_symlink():
            break
        path = folder / path.readlink()
    return [folder for folder in dict.fromkeys(found) if folder != "/"]


def program_folders(program: str) -> list[str]:
    """Return the installation that a program at `…/bin/NAME` needs: the folder above `bin`, or none for the system's own."""
    path = Path(program)
    if not program or path.is_relative_to("/usr") or path.parent in (Path("/bin"), Path("/sbin")):
        return []
    return [str(path.parent.parent if path.parent.name == "bin" else path)]


class Isolation(msgspec.Struct, frozen=True):
    """`users`: each function runs as a user of its own, from `first_user` on, which gives users
    for so many `namespaces`. `mounts`: replicas have mount namespaces.

    `why` says, where one of them is missing, why.
    """

    users: bool
    mounts: bool
    first_user: int = FIRST_USER
    namespaces: int = NAMESPACES
    why: str = ""

    def user(self, namespace_number: int, user: int) -> int | None:
        """Return the uid of a function from its place among all, None where functions share the platform's user."""
        return self.first_user + namespace_number * USERS_PER_NAMESPACE + user if self.users else None


async def probe(keeper: KeeperLink, folder: Path) -> Isolation:
    """Find out by starting an interpreter as functions will be started; `folder` is a writable one of the platform's.

    Raises Unreachable where functions run as other users, who could not reach the interpreter or the data folder.
    """
    if os.geteuid() != 0:
        return Isolation(users=False, mounts=False, why="the platform does not run as root")
    found = users_here(Path("/proc/self/uid_map").read_text())
    if found is None:
        return Isolation(users=False, mounts=False, why="this user namespace has too few users")
    first_user, namespaces = found
    try:
        Path(SECRETS_FOLDER).mkdir(parents=True, exist_ok=True)
        can_mount = True
    except OSError:
        can_mount = False
    why = f"{SECRETS_FOLDER} cannot be made"
    for mounts, users in ((True, True), (False, True), (False, False)):
        if mounts and not can_mount:
            continue
        failure = await _try(keeper, folder, first_user if users else None, mounts=mounts)
        if failure is None:
            if users and not mounts:
                _check_reachable(folder)
            why = why if not (users and mounts) else ""
            return Isolation(users=users, mounts=mounts, first_user=first_user, namespaces=namespaces, why=why)
        if failure.step not in ("mounts", "user"):
            if users:
                _check_reachable(folder)
            raise Unreachable(f"a test process could not be started ({failure})")
        why = failure.text
    raise Unreachable(f"a test process could not be started: {why}")


async def _try(keeper: KeeperLink, folder: Path, uid: int | None, *, mounts: bool) -> SpawnFailed | None:
    view = None
    if mounts:
        place = Place.of([], interpreter=str(base_interpreter()))
        binds = ((str(folder), TEMPORARY, False), *((path, path, True) for path in place.shown))
        view = Mounts(covers=place.covers, binds=binds, secrets=SecretFiles(SECRETS_FOLDER, {}), read_only_root=True)
    plan = SpawnPlan(argv=(str(base_interpreter()), "-I", "-S", "-c", ""), env={}, cwd="/", mounts=view, uid=uid, gid=uid)
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        process = await keeper.spawn(f"probe-{mounts}-{uid}", plan, (null, null))
    except SpawnFailed as failure:
        return failure
    finally:
        os.close(null)
    ended = await process.exited
    return None if ended.status == 0 else SpawnFailed("program", 0, str(ended))


def users_here(uid_map: str) -> tuple[int, int] | None:
    """Return where the range of functions' users starts, and for how many namespaces it lasts; None when for too few.

    This user namespace may map few users (user_namespaces(7)): the lower ones of the widest range stay those of others.
    65,536 of them give 4 namespaces, from 25,536 on.
    """
    ranges = [[int(n) for n in line.split()] for line in uid_map.splitlines()]
    if any(start <= FIRST_USER and start + count > LAST_USER for start, _, count in ranges):
        return FIRST_USER, NAMESPACES
    start, _, count = max(ranges, key=lambda entry: entry[2])
    namespaces = min(NAMESPACES, count // USERS_PER_NAMESPACE - 2)
    return (start + count - namespaces * USERS_PER_NAMESPACE, namespaces) if namespaces >= 2 else None


def _check_reachable(folder: Path) -> None:
    for path in (*interpreter_folders(str(base_interpreter())), str(folder)):
        if closed := closed_parent(f"{path}/within"):
            raise Unreachable(
                f"functions run as users of their own, who may not enter {closed} and so cannot reach {path}:"
                f" move it, or allow it with `chmod o+x {closed}`"
            )
