"""What happens after a fork: the child becomes what its plan says, then execs the replica's program, or calls it (`stem`).

The order matters: the cgroup first, so that all that follows is counted; mounts while there are privileges; then the
privileges go; files and the working folder last, so that they are found as the function's user finds them. Each step
has a name, and the first that fails is reported with it.
"""

# The keeper does without pathlib: it stays small.
# ruff: noqa: PTH103, PTH118, PTH120, PTH123
from __future__ import annotations

import base64
import fcntl
import os
import resource
import signal
import stat
from typing import Any

from orchestration.local.keeper import linux

LISTEN_FD = 3
NOTIFY_FD = 4

_FLAGS = {
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "relatime": linux.MS_RELATIME,
}
_KEPT_WRITABLE = ("/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - a mount of the replica's own


class StepFailed(Exception):
    """The child could not become what its plan says. `step` is where, `number` the errno or 0."""

    def __init__(self, step: str, number: int, text: str) -> None:
        super().__init__(f"{step}: {text}")
        self.step = step
        self.number = number
        self.text = text


def become(plan: dict[str, Any], fds: list[int], report: int) -> None:
    """Never return: exec the plan's program, or write `STEP\\nERRNO\\nTEXT` to the pipe `report` and exit 127.

    `fds` are stdout, stderr and, where the plan says so, the listening socket and the notify pipe.
    """
    try:
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, 64)  # out of the way of the replica's own files
        settle(plan, fds, report)
        with _Step("program"):
            os.execvpe(plan["argv"][0], plan["argv"], plan["env"])  # noqa: S606 - without a shell is the point
    except StepFailed as failure:
        os.write(report, f"{failure.step}\n{failure.number}\n{failure.text}".encode(errors="replace"))
    finally:
        os._exit(127)


def settle(plan: dict[str, Any], fds: list[int], report: int) -> None:
    """Become all that the plan says but its program; of the open files only `fds`, from 1 on, and `report` are left.

    Raises StepFailed.
    """
    with _Step("session"):
        os.setsid()
        linux.set_child_subreaper(True)  # what the program leaves behind stays below it until it ends
    with _Step("cgroup"):
        for path in plan["cgroups"]:
            with open(path + "/cgroup.procs", "w") as file:
                file.write("0")
    with _Step("limits"):
        for kind, soft, hard in plan["rlimits"]:
            resource.setrlimit(kind, (soft, hard))
    with _Step("mounts"):
        if plan["mounts"] is not None:
            _mount(plan["mounts"], plan["uid"], plan["gid"])
    with _Step("files"):
        _place(fds, report)
    with _Step("user"):
        if plan["uid"] is not None:
            os.setgroups([])
            os.setresgid(plan["gid"], plan["gid"], plan["gid"])
            os.setresuid(plan["uid"], plan["uid"], plan["uid"])
        linux.set_no_new_privs()
        os.umask(0o022)
    with _Step("folder"):
        os.chdir(plan["cwd"])
    with _Step("program"):
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


class _Step:
    """Name what is done, so that a failure is reported with it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            text = os.strerror(error.errno or 0) + (f": {error.filename}" if error.filename else "")
            raise StepFailed(self._name, error.errno or 0, text) from None
        if isinstance(error, ValueError | KeyError | TypeError):
            raise StepFailed(self._name, 0, repr(error)) from None


def _place(fds: list[int], report: int) -> None:
    """Put /dev/null at 0 and `fds` at 1, 2, 3 …; close everything else but `report`, which closes with the exec.

    A `report` of -1 is none.
    """
    null = os.open("/dev/null", os.O_RDONLY)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in (null, *fds)]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=True)
    os.closerange(len(high), max(len(high), report))
    os.closerange(max(len(high), report + 1), 1 << 20)


def _mount(plan: dict[str, Any], uid: int | None, gid: int | None) -> None:
    """Make the replica's view of the file system.

    Sources are opened before anything is covered, because a cover may hide them; a bind from /proc/self/fd still finds
    them. A cover is an empty folder in place of one that the function's user may not enter.
    """
    linux.unshare_mounts()
    sources = [os.open(source, os.O_PATH) for source, _, _ in plan["binds"]]
    for path in plan["covers"]:
        linux.mount("pinnace", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=64k")
    for fd, (_, target, read_only) in zip(sources, plan["binds"], strict=True):
        _mount_point(target, stat.S_ISDIR(os.fstat(fd).st_mode))
        linux.mount(f"/proc/self/fd/{fd}", target, None, linux.MS_BIND | linux.MS_REC)
        if read_only:
            linux.mount(None, target, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | _flags(target))
        os.close(fd)
    if plan["secrets"] is not None:
        _secrets(plan["secrets"]["folder"], plan["secrets"]["files"], uid, gid)
    if plan["read_only_root"]:
        _read_only_root()


def _mount_point(target: str, folder: bool) -> None:
    """Make the place for a bind where a cover left nothing. What exists is used as it is."""
    if os.path.lexists(target):
        return
    os.makedirs(target if folder else os.path.dirname(target), mode=0o755, exist_ok=True)
    if not folder:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _secrets(folder: str, files: dict[str, str], uid: int | None, gid: int | None) -> None:
    """Secrets live in memory only, in a folder that nobody else can see."""
    linux.mount("pinnace", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "mode=0755")
    for name, value in files.items():
        fd = os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
        with open(fd, "wb") as file:
            file.write(base64.b64decode(value))
            if uid is not None and gid is not None:
                os.fchown(file.fileno(), uid, gid)
    again = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY
    linux.mount(None, folder, None, again | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)


def _mounts() -> list[tuple[str, int]]:
    """Return `(mount point, flags)` of all mounts (proc(5), /proc/PID/mountinfo), later ones last."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            path = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
            found.append((path, sum(_FLAGS.get(option, 0) for option in fields[5].split(","))))
    return found


def _flags(path: str) -> int:
    """The flags that a remount must repeat, or the kernel refuses it where they are locked."""
    return {mount: flags for mount, flags in _mounts() if mount == path}.get(path, 0)


def _read_only_root() -> None:
    for path, flags in _mounts():
        if not any(path == kept or path.startswith(kept + "/") for kept in _KEPT_WRITABLE):
            try:
                linux.mount(None, path, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | flags)
            except OSError:
                if path == "/":
                    raise  # another mount may be covered and out of reach; the root may not stay writable
