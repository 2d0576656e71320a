"""The rooms of a zygote's forks: for each a cgroup and a folder for /tmp, which are there before it is and serve others after.

Making and removing them costs more than the fork. A file system may not give away the number of a removed file for minutes
and looks past all of them for a new one (ext4: 300 s): at 150 starts a second that alone takes 3 ms a start. So a room that is
left is emptied and used again. One that cannot be, because something still runs there or it holds memory that is not its
next owner's, is removed with all that is in it.

All calls block. They may come from several threads.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestration.local.cgroups import Cgroups, ReplicaCgroup
from orchestration.local.isolation import TEMPORARY
from orchestration.local.limits import Limits

ROOMS_INSIDE: Final = f"{TEMPORARY}/.pinnace"
SPARE_AT_MOST: Final = 16
LEFT_AT_MOST_BYTES: Final = 4 << 20
"""A cgroup that still holds more has kept files in memory which are no longer anybody's."""

Tree = Mapping[str, Any]
"""Folders within a folder: name → what is to be within that."""


class Room(msgspec.Struct, frozen=True):
    """What is made for one fork: a cgroup, and a folder at `path`, which its zygote sees at `inside`.

    `inside` is empty where a fork has no view of the file system of its own.
    """

    number: int
    cgroup: ReplicaCgroup | None
    path: Path
    inside: str


class Rooms:
    """Makes the rooms of the zygote `name`'s forks in `folder`. `uid` is their user, None for the platform's own.

    `shown` are paths below /tmp which forks bind into theirs: a room has their places. `folder` is None where forks
    have no view of the file system of their own: then a room is a cgroup.
    """

    def __init__(
        self, name: str, folder: Path | None, *, uid: int | None, shown: Iterable[str], cgroups: Cgroups | None, limits: Limits
    ) -> None:
        self._name = name
        self._folder = folder
        self._uid = uid
        self._places = _tree(path.removeprefix(f"{TEMPORARY}/") for path in shown)
        self._cgroups = cgroups
        self._limits = limits
        self._numbers = itertools.count(1)
        self._spare: list[Room] = []

    @property
    def spare(self) -> int:
        """How many rooms wait for a fork."""
        return len(self._spare)

    def take(self) -> Room:
        """Return an empty room. Raises OSError, CgroupFailed."""
        with contextlib.suppress(IndexError):
            return self._spare.pop()
        number = next(self._numbers)
        cgroup = self._cgroups.create(f"{self._name}-{number}", self._limits) if self._cgroups is not None else None
        if self._folder is None:
            return Room(number, cgroup, Path(), "")
        path = self._folder / str(number)
        own_folder(path, self._uid)
        _make(str(path), self._places)
        return Room(number, cgroup, path, f"{ROOMS_INSIDE}/{number}")

    def leave(self, room: Room) -> None:
        """A fork has ended: its room serves the next one, or goes."""
        # Without a cgroup nobody knows whether something still runs there.
        if room.cgroup is not None and len(self._spare) < SPARE_AT_MOST and room.cgroup.empty:
            with contextlib.suppress(OSError):
                if (room.cgroup.memory_bytes() or 0) <= LEFT_AT_MOST_BYTES and (not room.inside or self._emptied(room.path)):
                    self._spare.append(msgspec.structs.replace(room, cgroup=room.cgroup.anew()))
                    return
        self.remove(room)

    def remove(self, room: Room) -> None:
        """Take the room away, and whatever still runs there."""
        if self._cgroups is not None:
            self._cgroups.remove(f"{self._name}-{room.number}")
        if room.inside:
            shutil.rmtree(room.path, ignore_errors=True)

    def tidy(self, keep: int = 0) -> None:
        """Keep no more than so many spare rooms."""
        while len(self._spare) > keep:
            with contextlib.suppress(IndexError):
                self.remove(self._spare.pop())

    def _emptied(self, path: Path) -> bool:
        """Make the room's folder what it was. Whether that came about. Raises OSError."""
        path.chmod(0o700)
        return _clear(str(path), self._places)


def own_folder(path: Path, uid: int | None) -> None:
    """Make a folder that is the user's alone; what is above it can be passed, not listed. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o711)
    if uid is not None:
        os.chown(path, uid, uid)
    path.chmod(0o700)


def _tree(paths: Iterable[str]) -> Tree:
    """`a/b`, `a/c` gives `{"a": {"b": {}, "c": {}}}`."""
    root: dict[str, Any] = {}
    for path in paths:
        folder = root
        for name in path.split("/"):
            folder = folder.setdefault(name, {})
    return root


def _make(folder: str, tree: Tree) -> None:
    for name, below in tree.items():
        path = f"{folder}/{name}"
        os.mkdir(path)  # noqa: PTH102 - strings: for each start
        os.chmod(path, 0o755)  # noqa: PTH101, S103 - whatever the umask says; empty, and covered by what is shown
        _make(path, below)


def _clear(folder: str, tree: Tree) -> bool:
    """Remove all that is not of `tree`. Whether all of that is there. Raises OSError."""
    with os.scandir(folder) as listing:
        entries = list(listing)
    found = 0
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and entry.name in tree:
            if not _clear(entry.path, tree[entry.name]):
                return False
            found += 1
        elif is_folder:
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)  # noqa: PTH108
    return found == len(tree)
