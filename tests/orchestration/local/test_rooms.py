"""Rooms for the forks of a zygote: what a fork leaves in its room is gone before the next one has it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.local.cgroups import Cgroups, ReplicaCgroup
from orchestration.local.limits import Limits
from orchestration.local.rooms import SPARE_AT_MOST, Room, Rooms

SHOWN = ("/tmp/data/layers/a", "/tmp/data/layers/b")


class Folders(Cgroups):
    """Cgroups as mere folders: nothing that is written there has an effect."""

    def create(self, replica: str, limits: Limits) -> ReplicaCgroup:
        folder = self.bases["memory"] / replica
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text("")
        (folder / "memory.usage_in_bytes").write_text("1000")
        (folder / "memory.oom_control").write_text("oom_kill 2\n")
        return ReplicaCgroup(1, {"memory": str(folder)})

    def remove(self, replica: str) -> None:
        shutil.rmtree(self.bases["memory"] / replica)


@pytest.fixture
def rooms(place: Path) -> Rooms:
    cgroups = Folders(1, {"memory": place / "cgroups"})
    return Rooms("zygote", place / "rooms", uid=None, shown=SHOWN, cgroups=cgroups, limits=Limits())


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


FURNITURE = ["data", "data/layers", "data/layers/a", "data/layers/b"]


def test_a_room_is_closed_to_others_and_has_a_place_for_what_is_shown(rooms: Rooms) -> None:
    room = rooms.take()
    assert names(room.path) == FURNITURE
    assert room.path.stat().st_mode & 0o777 == 0o700
    assert room.inside == "/tmp/.pinnace/1"
    assert rooms.take().path != room.path


def test_what_was_left_in_a_room_is_gone_when_the_next_has_it(rooms: Rooms, place: Path) -> None:
    room = rooms.take()
    (place / "elsewhere").write_text("kept")
    (room.path / "file").write_text("left")
    (room.path / "data" / "file").write_text("left")
    (room.path / "folder" / "deep").mkdir(parents=True)
    (room.path / "link").symlink_to(place / "elsewhere")
    room.path.chmod(0o777)
    rooms.leave(room)
    again = rooms.take()
    assert again.path == room.path
    assert names(again.path) == FURNITURE
    assert again.path.stat().st_mode & 0o777 == 0o700
    assert (place / "elsewhere").read_text() == "kept"


def test_what_the_cgroup_counted_before_is_not_the_next_ones(rooms: Rooms) -> None:
    room = rooms.take()
    assert room.cgroup is not None
    assert room.cgroup.oom_kills() == 2
    rooms.leave(room)
    again = rooms.take()
    assert again.cgroup is not None
    assert again.cgroup.oom_kills() == 0
    (Path(again.cgroup.at["memory"]) / "memory.oom_control").write_text("oom_kill 3\n")
    assert again.cgroup.oom_kills() == 1


def within(room: Room, name: str, text: str) -> None:
    assert room.cgroup is not None
    (Path(room.cgroup.at["memory"]) / name).write_text(text)


def relink(room: Room) -> None:
    shutil.rmtree(room.path / "data")
    (room.path / "data").symlink_to("/")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda room: within(room, "cgroup.procs", "12345\n"),
        lambda room: within(room, "memory.usage_in_bytes", str(64 << 20)),
        lambda room: (room.path / "data" / "layers" / "a").rmdir(),
        relink,
    ],
    ids=["somebody is there", "memory is held", "its furniture is gone", "its furniture leads elsewhere"],
)
def test_a_room_that_is_not_what_it_was_is_removed(rooms: Rooms, spoil: Callable[[Room], None]) -> None:
    room = rooms.take()
    spoil(room)
    rooms.leave(room)
    assert rooms.spare == 0
    assert not room.path.exists()
    assert room.cgroup is not None
    assert not Path(room.cgroup.at["memory"]).exists()
    assert rooms.take().number != room.number


def test_so_many_rooms_are_spared_and_no_more(rooms: Rooms, place: Path) -> None:
    taken = [rooms.take() for _ in range(SPARE_AT_MOST + 3)]
    for room in taken:
        rooms.leave(room)
    assert rooms.spare == len(list((place / "rooms").iterdir())) == SPARE_AT_MOST
    rooms.tidy(keep=2)
    assert rooms.spare == len(list((place / "cgroups").iterdir())) == 2
    rooms.tidy()
    assert list((place / "rooms").iterdir()) == list((place / "cgroups").iterdir()) == []


def test_without_a_cgroup_nobody_knows_who_is_there_and_a_room_is_used_once(place: Path) -> None:
    rooms = Rooms("zygote", place / "rooms", uid=None, shown=(), cgroups=None, limits=Limits())
    room = rooms.take()
    rooms.leave(room)
    assert not room.path.exists()


def test_where_forks_see_all_files_a_room_is_a_cgroup(place: Path) -> None:
    cgroups = Folders(1, {"memory": place / "cgroups"})
    rooms = Rooms("zygote", None, uid=None, shown=(), cgroups=cgroups, limits=Limits())
    room = rooms.take()
    assert room.inside == ""
    rooms.leave(room)
    assert rooms.take().number == room.number
