"""What functions can reach of each other, of the platform and of the machine."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from orchestration.local import isolation, machine
from orchestration.local.failures import Unreachable
from orchestration.local.isolation import (
    FIRST_USER,
    LAST_USER,
    Isolation,
    Place,
    closed_parent,
    interpreter_folders,
    program_folders,
    users_here,
)
from orchestration.local.keeper_link import KeeperLink, SpawnFailed
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.local.store import NAMESPACES
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.orchestrator import Namespace
from tests.orchestration.local.world import Bundles, Watch, get, spec, watching

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users and mount namespaces")
HELLO = FunctionId(DEFAULT_NAMESPACE, "hello")


def without(monkeypatch: pytest.MonkeyPatch, *, users: bool, mounts: bool) -> None:
    async def found(keeper: KeeperLink, folder: Path) -> Isolation:
        return Isolation(users=users, mounts=mounts, why="a test says so")

    monkeypatch.setattr(machine, "probe", found)


def test_a_path_below_a_closed_folder_is_shown_in_its_place(place: Path) -> None:
    closed = Path("/var/tmp") / place.name / "closed"
    wanted = closed / "deep" / "er"
    wanted.mkdir(parents=True)
    try:
        closed.chmod(0o700)
        assert closed_parent(str(wanted)) == str(closed)
        found = Place.of([str(wanted), str(closed / "deep"), str(place)], interpreter="/bin/sh")
        assert found == Place(covers=(str(closed),), shown=(str(place), str(closed / "deep")))
    finally:
        wanted.rmdir()
        wanted.parent.rmdir()
        closed.rmdir()
        closed.parent.rmdir()


def test_an_interpreter_is_followed_through_its_links(place: Path) -> None:
    for name in ("layer/bin", "opt/py/bin"):
        (place / name).mkdir(parents=True)
    (place / "opt/py/bin/python3.11").touch()
    (place / "opt/py/bin/python3").symlink_to("python3.11")
    (place / "layer/bin/python").symlink_to(place / "opt/py/bin/python3")
    assert interpreter_folders(str(place / "layer/bin/python")) == [str(place / "layer"), str(place / "opt/py")]


@pytest.mark.parametrize(
    ("uid_map", "expected"),
    [
        ("0 0 4294967295", (FIRST_USER, NAMESPACES)),
        ("0 100000 65536", (25_536, 4)),
        ("0 1000 1\n1 100000 65536", (25_537, 4)),
        ("0 1000 1", None),
        ("0 1000 39999", None),
    ],
)
def test_a_small_user_namespace_has_users_for_few_namespaces(uid_map: str, expected: tuple[int, int] | None) -> None:
    assert users_here(uid_map) == expected
    if expected is not None:
        last = Isolation(users=True, mounts=True, first_user=expected[0]).user(expected[1] - 1, 9_999)
        assert last is not None
        assert last <= LAST_USER


@pytest.mark.root
@root
async def test_each_function_is_a_user_of_its_own_without_privileges(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.create_namespace(Namespace("other"))
    for one in (spec("a"), spec("b"), spec("a", namespace="other")):
        await orchestrator.apply(one)
    await watch.until(lambda: len(watch.running()) == 3)
    ids = {(r.namespace, r.function): json.loads((await get(r, "/ids"))[1]) for r in watch.running()}
    users = {key: found["uid"][0] for key, found in ids.items()}
    assert users == {
        (DEFAULT_NAMESPACE, "a"): FIRST_USER,
        (DEFAULT_NAMESPACE, "b"): FIRST_USER + 1,
        ("other", "a"): FIRST_USER + 10_000,
    }
    for found in ids.values():
        assert found["uid"] == found["gid"] == [found["uid"][0]] * 3
        assert (found["groups"], found["no_new_privs"]) == ([], ["1"])
    assert f"runs as user {FIRST_USER}" in orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "a")).notes


@pytest.mark.root
@root
@pytest.mark.parametrize("mounts", [True, False])
async def test_a_function_reads_its_own_secrets_and_nothing_of_others(
    place: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch, mounts: bool
) -> None:
    if not mounts:
        if closed_parent(os.path.realpath(sys.executable)):
            bundles.commands["good:1"] = ("/usr/bin/python3", "-I", "-S", "{code}/replica.py")
            if not Path("/usr/bin/python3").exists():
                pytest.skip("no interpreter that every user can reach")
        without(monkeypatch, users=True, mounts=False)
    data = place / "data"
    opened = LocalOrchestrator.open(data, bundles, run_dir=place / "run")
    async with opened as orchestrator, watching(orchestrator) as watch:
        for name in ("mine", "theirs"):
            await orchestrator.create_secret(DEFAULT_NAMESPACE, name, name.encode() * 2)
            await orchestrator.apply(spec(name, secrets=(name,)))
        await watch.until(lambda: len(watch.running()) == 2)
        mine, theirs = sorted(watch.running(), key=lambda r: r.function)
        folders = [(await get(r, "/env/secret_mount_path"))[1] for r in (mine, theirs)]
        assert await get(mine, f"/file{folders[0]}/mine") == (200, "minemine")
        assert (await get(mine, f"/write{folders[0]}/new"))[0] == 403 if mounts else True
        if mounts:
            assert folders == ["/var/openfaas/secrets"] * 2
            assert (await get(mine, "/list/var/openfaas/secrets"))[1] == "mine"
        else:
            assert (await get(mine, f"/file{folders[1]}/theirs"))[0] == 403
            assert (await get(mine, f"/list{folders[1]}"))[0] == 403
        hidden = [data / "state.db", data / "secrets.db", data / "logs", place / "run", data / "replicas" / theirs.id / "tmp"]
        for path in hidden:
            assert path.exists()
            status, text = await get(mine, f"/{'list' if path.is_dir() else 'file'}{path}")
            assert status == 403, (path, text)
        assert theirs.endpoint is not None
        assert (await get(mine, f"/connect{theirs.endpoint.unix}"))[0] == 403
        (note,) = [note for note in orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "mine")).notes if "secrets" in note]
        assert note.startswith("secrets are mounted at" if mounts else "secrets are in the folder that $secret_mount_path")
    assert list(Path("/var/openfaas/secrets").iterdir()) == []


@pytest.mark.root
@root
async def test_tmp_is_the_replicas_own_and_goes_with_it(orchestrator: LocalOrchestrator, watch: Watch, place: Path) -> None:
    function = await orchestrator.apply(spec())
    await orchestrator.apply(spec("other"))
    await watch.until(lambda: len(watch.running()) == 2)
    hello, other = sorted(watch.running(), key=lambda r: r.function)
    assert await get(hello, "/write/tmp/note") == (200, "written")
    assert "note" not in (await get(other, "/list/tmp"))[1]
    assert not Path("/tmp/note").exists()
    assert (await get(hello, f"/write{place}/code/new"))[0] == 403
    await orchestrator.scale(function.newest.key, 0)
    await watch.until(lambda: watch.replicas[hello.id].state == "Stopped")
    assert not (place / "data" / "replicas" / hello.id).exists()


@pytest.mark.root
@root
async def test_a_read_only_root_can_be_written_nowhere_but_in_tmp(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec(read_only_root_filesystem=True))
    await watch.until(watch.running)
    replica = watch.running()[0]
    assert await get(replica, "/write/tmp/note") == (200, "written")
    status, text = await get(replica, "/write/var/tmp/note")
    assert status == 403
    assert "Read-only file system" in text


@pytest.mark.root
@root
async def test_code_below_closed_folders_runs(place: Path, bundles: Bundles) -> None:
    closed = Path("/root") / place.name
    closed.mkdir(mode=0o700)
    try:
        bundles.code = bundles.code.rename(closed / "code")
        opened = LocalOrchestrator.open(closed / "data", bundles)
        async with opened as orchestrator, watching(orchestrator) as watch:
            await orchestrator.apply(spec())
            await watch.until(watch.running)
            replica = watch.running()[0]
            assert await get(replica, f"/list{closed}") == (200, "code")
            assert (await get(replica, f"/write{closed}/code/new"))[0] == 403
    finally:
        shutil.rmtree(closed)


@pytest.mark.root
@root
async def test_where_users_cannot_reach_the_interpreter_the_start_is_refused(
    place: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    (closed / "bin").mkdir()
    (closed / "bin" / "python").symlink_to(sys.executable)

    async def no_mounts(keeper: KeeperLink, folder: Path, uid: int | None, *, mounts: bool) -> SpawnFailed | None:
        return SpawnFailed("mounts", 1, "Operation not permitted") if mounts else None

    monkeypatch.setattr(isolation, "_try", no_mounts)
    monkeypatch.setattr(sys, "_base_executable", str(closed / "bin" / "python"))
    with pytest.raises(Unreachable, match=f"may not enter {closed} .*`chmod o\\+x {closed}"):
        async with LocalOrchestrator.open(place / "data", bundles):
            raise AssertionError("it started")


async def test_without_root_all_functions_share_one_user_and_say_so(
    place: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, users=False, mounts=False)
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"value")
        await orchestrator.apply(spec(secrets=("key",), read_only_root_filesystem=True))
        await watch.until(watch.running)
        replica = watch.running()[0]
        folder, temporary = [(await get(replica, f"/env/{name}"))[1] for name in ("secret_mount_path", "TMPDIR")]
        assert await get(replica, f"/file{folder}/key") == (200, "value")
        assert await get(replica, f"/write{temporary}/note") == (200, "written")
        notes = orchestrator.status(HELLO).notes
    assert [note.split(" (")[0] for note in notes] == [
        "runs as the platform's own user, as all functions do: one trust domain",
        "the folder /tmp is the machine's; $TMPDIR is the replica's own",
        "secrets are in the folder that $secret_mount_path names, not at /var/openfaas/secrets",
        "readOnlyRootFilesystem is not enforced",
    ]
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("program", "folders"),
    [
        ("", []),
        ("/usr/bin/node", []),
        ("/usr/local/bin/node", []),
        ("/bin/node", []),
        ("/root/.nvm/versions/node/v20/bin/node", ["/root/.nvm/versions/node/v20"]),
        ("/opt/node", ["/opt/node"]),
    ],
)
def test_a_program_is_shown_with_its_installation(program: str, folders: list[str]) -> None:
    assert program_folders(program) == folders
