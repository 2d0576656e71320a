"""What a fork of a zygote does before it is a replica: it becomes a session, a subreaper and a view of /tmp of its own.

A fork has no privileges, so its mount namespace comes with a user namespace in which its user is itself and nobody else
(user_namespaces(7)). The capabilities that this gives are dropped before any code of the function's runs again.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPORARY = "/tmp"  # noqa: S108 - a mount of the replica's own
# Where the folders for the replicas' /tmp are mounted in the zygote's view: what lies there is gone from a replica's.
ROOMS = f"{TEMPORARY}/.pinnace"

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC = 4096, 16384
_PR_SET_DUMPABLE, _PR_SET_NAME, _PR_GET_NAME, _PR_SET_CHILD_SUBREAPER = 4, 15, 16, 36
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
# Made here, once: a fork that made them would make their classes first, which takes it 0.2 ms.
_NAME = ctypes.create_string_buffer(16)
_ON, _OFF = ctypes.c_ulong(1), ctypes.c_ulong(0)
_BIND = ctypes.c_ulong(_MS_BIND | _MS_REC)
_CAPABILITIES_HEADER = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def set_child_subreaper(on: bool) -> None:
    """Let orphans below this process become its children (prctl(2)); children do not inherit it."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, _ON if on else _OFF, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def rename(name: bytes) -> bytes:
    """Set what `ps` and `top` call this process, at most 15 bytes; return what they called it before (prctl(2))."""
    _check(_libc.prctl(_PR_GET_NAME, _NAME, 0, 0, 0), "PR_GET_NAME")
    before = _NAME.value
    _NAME.value = name
    _check(_libc.prctl(_PR_SET_NAME, _NAME, 0, 0, 0), "PR_SET_NAME")
    return before


def own_temporary(room: str, shown: Sequence[str]) -> None:
    """Let the folder `room` be /tmp, for this process only. Raises OSError.

    `shown` are the paths below /tmp that stay to be seen.
    """
    uid, gid = os.getuid(), os.getgid()
    # One that changed its user without an exec is closed to itself (proc(5), /proc/PID): its maps could not be written.
    _check(_libc.prctl(_PR_SET_DUMPABLE, _ON, 0, 0, 0), "PR_SET_DUMPABLE")
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
    _write("/proc/self/setgroups", b"deny")
    _write("/proc/self/uid_map", b"%d %d 1" % (uid, uid))
    _write("/proc/self/gid_map", b"%d %d 1" % (gid, gid))
    kept = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in shown]  # before /tmp covers them
    _bind(room, TEMPORARY)
    for fd, path in zip(kept, shown, strict=True):
        try:
            _bind(f"/proc/self/fd/{fd}", path)
        except FileNotFoundError:  # the room is not furnished
            os.makedirs(path, exist_ok=True)
            _bind(f"/proc/self/fd/{fd}", path)
        os.close(fd)
    _drop_capabilities()


def place(fds: Sequence[int]) -> None:
    """Put /dev/null at 0 and the two descriptors `fds` at 1 and 2, whatever an import did to those."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for target, fd in enumerate((null, *fds)):
        if fd == target:
            os.set_inheritable(fd, True)
        else:
            os.dup2(fd, target, inheritable=True)
            os.close(fd)


def move_home(old: str, new: str) -> None:
    """Let the folder for temporary files be `new` where it was `old`: no view of its own gives this replica another /tmp."""
    import sys

    for name in ("TMPDIR", "HOME"):
        if os.environ.get(name) == old:
            os.environ[name] = new
    tempfile = sys.modules.get("tempfile")
    if getattr(tempfile, "tempdir", None) == old:
        setattr(tempfile, "tempdir", new)  # noqa: B010 - it may be None


def _bind(source: str, target: str) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND, None), target)


def _drop_capabilities() -> None:
    _check(_libc.capset(_CAPABILITIES_HEADER, _NO_CAPABILITIES), "capset")


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
