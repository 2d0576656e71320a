from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from builder.admission import BuilderBusy
from builder.events import BuildEvent
from builder.service import Builder
from builder.store import BundleStore
from orchestration.bundle import UnknownBundle

MakeFunction = Callable[..., Path]
MakeTar = Callable[..., Path]
MakeWheel = Callable[..., Path]
REPOSITORY = Path(__file__).parent.parent.parent
PATIENCE_S = 30.0


class StalledIndex:
    """A package index that takes connections and never answers. `gone` is set when no client is connected any more."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.gone = asyncio.Event()
        self._clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        self.gone.clear()
        self.connected.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._clients -= 1
        if not self._clients:
            self.gone.set()


@pytest.fixture
async def stalled_index(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StalledIndex]:
    index = StalledIndex()
    server = await asyncio.start_server(index.serve, "127.0.0.1", 0)
    for variable in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple")
    async with server:
        yield index
        if index.connected.is_set():
            await wait_for(index.gone)


@pytest.fixture
def stalled_tar(make_function: MakeFunction, context_of: MakeTar) -> Path:
    return context_of(make_function({"handler.py": "x = 1", "requirements.txt": "thing"}, "stalled"))


async def all_events(builder: Builder, tar: Path) -> list[BuildEvent]:
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in builder.build(tar)]


async def wait_for(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_S)


async def test_a_build_reports_and_ends_with_success(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    async with Builder(store) as builder:
        events = await all_events(builder, context_of(make_function()))
    assert [event.status for event in events[:-1]] == ["in_progress"] * (len(events) - 1)
    assert (events[-1].status, events[-1].image, events[-1].error) == ("success", "hello:latest", "")
    assert 0 < events[-1].duration < PATIENCE_S
    assert events[0].log == [
        f"building hello:latest with template python3-http for Python {sys.version_info[0]}.{sys.version_info[1]}"
    ]
    assert store.resolve("hello").digest in "".join(line for event in events for line in event.log)


def test_it_works_on_uvloop(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    async def run() -> list[BuildEvent]:
        async with Builder(store) as builder:
            return await all_events(builder, context_of(make_function()))

    assert uvloop.run(run())[-1].status == "success"


async def test_a_broken_handler_fails_with_one_line(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    async with Builder(store) as builder:
        events = await all_events(builder, context_of(make_function({"handler.py": "def handle(:\n"})))
    assert events[-1].status == "failed"
    assert events[-1].image == "hello:latest"
    assert events[-1].error.startswith("function/handler.py line 1: SyntaxError: ")
    assert sum(event.is_final for event in events) == 1


async def test_a_context_that_is_no_tar_fails(store: BundleStore, tmp_path: Path) -> None:
    (tmp_path / "context").write_bytes(b"nonsense")
    async with Builder(store) as builder:
        events = await all_events(builder, tmp_path / "context")
        gone = await all_events(builder, tmp_path / "absent")
    assert "is not a tar archive" in events[-1].error
    assert gone[-1].error.startswith("the build could not use the disk: ")


async def test_every_language_is_built(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    async with Builder(store) as builder:
        for language in ("python3", "python3-asgi", "python3-http"):
            tar = context_of(make_function(), f"{language}-image", language=language)
            assert (await all_events(builder, tar))[-1].status == "success"
    assert {store.resolve(f"{name}-image").template for name in ("python3", "python3-asgi")} == {"python3", "python3-asgi"}


async def test_two_builds_of_the_same_dependencies_install_them_once(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar, wheels: MakeWheel
) -> None:
    wheels("thing")
    tars = [
        context_of(make_function({"handler.py": f"x = {name!r}", "requirements.txt": "thing"}, name), name)
        for name in ("one", "two")
    ]
    async with Builder(store) as builder:
        results = await asyncio.gather(*(all_events(builder, tar) for tar in tars))
    assert [events[-1].status for events in results] == ["success", "success"]
    lines = [line for events in results for event in events for line in event.log]
    assert sum("Successfully installed thing" in line for line in lines) == 1
    assert store.resolve("one").layers[1] == store.resolve("two").layers[1]


async def test_too_many_builds_are_refused_at_once(store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path) -> None:
    async with Builder(store, concurrent=1, queue=1) as builder:
        running = asyncio.create_task(all_events(builder, stalled_tar))
        await wait_for(stalled_index.connected)
        waiting = builder.build(stalled_tar)
        assert (await anext(waiting)).log == ["waiting for other builds to finish"]
        with pytest.raises(BuilderBusy, match="2 builds are running or waiting; try again"):
            builder.build(stalled_tar)
        await waiting.aclose()
        again = builder.build(stalled_tar)
        assert (await anext(again)).status == "in_progress"
        await again.aclose()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_waiting_build_starts_when_another_ends(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    tars = [context_of(make_function({"handler.py": f"x = {i}"}, f"f{i}"), f"image-{i}") for i in range(4)]
    async with Builder(store, concurrent=1) as builder:
        results = await asyncio.gather(*(all_events(builder, tar) for tar in tars))
    assert {status: seconds.count for status, seconds in builder.durations.items()} == {"success": 4}
    assert [events[-1].status for events in results] == ["success"] * 4
    assert len(store.images()) == 4


async def test_the_time_limit_ends_the_worker_and_pip(
    store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path
) -> None:
    async with Builder(store, time_limit_s=2.0) as builder:
        events = await all_events(builder, stalled_tar)
        assert (events[-1].status, events[-1].error) == ("failed", "the build took longer than 2 s")
        await wait_for(stalled_index.gone)
    with pytest.raises(UnknownBundle):
        store.resolve("hello")


async def test_closing_the_iterator_cancels_the_build(
    store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path
) -> None:
    async with Builder(store, concurrent=1) as builder:
        events = builder.build(stalled_tar)
        await anext(events)
        await wait_for(stalled_index.connected)
        await events.aclose()
        await wait_for(stalled_index.gone)
        assert {status: seconds.count for status, seconds in builder.durations.items()} == {"cancelled": 1}


async def test_a_cancelled_task_gives_its_turn_back(
    store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path, make_function: MakeFunction, context_of: MakeTar
) -> None:
    async with Builder(store, concurrent=1) as builder:
        task = asyncio.create_task(all_events(builder, stalled_tar))
        await wait_for(stalled_index.connected)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await all_events(builder, context_of(make_function())))[-1].status == "success"


async def test_leaving_ends_running_and_waiting_builds(
    store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path
) -> None:
    async with Builder(store, concurrent=1) as builder:
        tasks = [asyncio.create_task(all_events(builder, stalled_tar)) for _ in range(2)]
        await wait_for(stalled_index.connected)
    results = await asyncio.gather(*tasks)
    assert [events[-1].error for events in results] == ["the gateway is stopping"] * 2
    await wait_for(stalled_index.gone)


async def test_a_worker_that_is_killed_is_a_failure(store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path) -> None:
    async with Builder(store) as builder:
        task = asyncio.create_task(all_events(builder, stalled_tar))
        await wait_for(stalled_index.connected)
        for worker in builder._workers:
            os.kill(worker._process.pid, signal.SIGKILL)
        events = await task
        await wait_for(stalled_index.gone)
    assert events[-1].error == "the build process was killed by signal 9; perhaps the machine is short of memory"


async def test_a_fault_of_ours_is_a_failure_with_a_reason(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar, caplog: pytest.LogCaptureFixture
) -> None:
    (store.root / "layers" / ("0" * 64 + ".json")).write_text("not a layer")
    async with Builder(store) as builder:
        events = await all_events(builder, context_of(make_function()))
    assert events[-1].status == "failed"
    assert events[-1].error.startswith("internal error in the build process: msgspec.DecodeError: ")
    assert "Traceback" in caplog.text


async def test_the_worker_ends_with_the_platform(store: BundleStore, stalled_index: StalledIndex, stalled_tar: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from builder.service import Builder\n"
        "from builder.store import BundleStore\n"
        "async def main():\n"
        "    async with Builder(BundleStore(Path(sys.argv[1]))) as builder:\n"
        "        async for _ in builder.build(Path(sys.argv[2])): pass\n"
        "asyncio.run(main())\n"
    )
    platform = await asyncio.create_subprocess_exec(sys.executable, "-c", program, store.root, stalled_tar, cwd=REPOSITORY)
    try:
        await wait_for(stalled_index.connected)
    finally:
        platform.kill()
        await platform.wait()
    await wait_for(stalled_index.gone)


async def test_leftovers_are_swept_when_the_builder_opens(store: BundleStore) -> None:
    left = store.root / "incoming" / "left"
    left.mkdir()
    async with Builder(store):
        assert not left.exists()


async def test_room_is_made_only_from_bundles_that_no_revision_uses(
    tmp_path: Path, make_function: MakeFunction, context_of: MakeTar
) -> None:
    small = BundleStore(tmp_path / "small", quota_bytes=10_000_000)
    used: set[str] = set()
    async with Builder(small, in_use=lambda: used) as builder:
        first = context_of(make_function({"handler.py": "", "data": "1" * 6_000_000}, "one"), "one")
        assert (await all_events(builder, first))[-1].status == "success"
        used.add(small.resolve("one").digest)
        for file in (*(small.root / "bundles").iterdir(), *(small.root / "layers").glob("*.json")):
            os.utime(file, (0, 0))
        second = context_of(make_function({"handler.py": "", "data": "2" * 6_000_000}, "two"), "two")
        refused = await all_events(builder, second)
        assert "remove functions that are not needed" in refused[-1].error
        used.clear()
        assert (await all_events(builder, second))[-1].status == "success"
    assert set(small.images()) == {"two:latest"}


async def test_unused_bundles_are_collected_while_it_runs(
    store: BundleStore, make_function: MakeFunction, context_of: MakeTar
) -> None:
    used: set[str] = set()
    asked = 0

    def in_use() -> set[str]:
        nonlocal asked
        asked += 1
        return set(used)

    async with Builder(store, in_use=in_use, collect_every_s=0.01) as builder:
        for name in ("used", "unused"):
            await all_events(builder, context_of(make_function({"handler.py": f"x = {name!r}"}, name), name))
        used.add(store.resolve("used").digest)
        unused = store.resolve("unused").layers[2]
        async with asyncio.timeout(PATIENCE_S):
            known = asked + 2  # by then, a collection that asked before has ended
            while asked < known:  # noqa: ASYNC110  # the collector asks by itself
                await asyncio.sleep(0.01)
        for file in (*(store.root / "bundles").iterdir(), *(store.root / "layers").glob("*.json")):
            os.utime(file, (0, 0))
        async with asyncio.timeout(PATIENCE_S):
            while store.folder(unused).exists() or len(store.images()) > 1:  # noqa: ASYNC110  # another thread removes them
                await asyncio.sleep(0.01)
    assert set(store.images()) == {"used:latest"}


async def test_the_public_key_is_the_same_each_time(store: BundleStore) -> None:
    async with Builder(store) as builder:
        assert await builder.public_key() == await builder.public_key()


class TestPull:
    """A registry that is not there stands for one that fails; tests with a real one are in tests/end_to_end."""

    @pytest.mark.parametrize("image", ["hello:1", "registry.example.com/hello:1", "not a name", "127.0.0.1:1/other/hello:1"])
    async def test_images_that_are_not_of_a_listed_registry_are_left_alone(self, store: BundleStore, image: str) -> None:
        async with Builder(store, registries=("127.0.0.1:1/team",)) as builder:
            await builder.pull(image)

    async def test_what_was_built_here_is_not_pulled(
        self, store: BundleStore, make_function: MakeFunction, context_of: MakeTar
    ) -> None:
        async with Builder(store) as builder:
            await all_events(builder, context_of(make_function(), "127.0.0.1:1/hello:1"))
        async with Builder(store, registries=("*",)) as builder:
            await builder.pull("127.0.0.1:1/hello:1")

    async def test_what_cannot_be_pulled_is_unknown(self, store: BundleStore) -> None:
        async with Builder(store, registries=("*",)) as builder:
            with pytest.raises(UnknownBundle, match=r"the registry 127.0.0.1:1 cannot be reached"):
                await builder.pull("127.0.0.1:1/hello:1")

    async def test_what_was_pulled_before_serves_while_the_registry_is_away(
        self, store: BundleStore, make_function: MakeFunction, context_of: MakeTar
    ) -> None:
        async with Builder(store) as builder:
            await all_events(builder, context_of(make_function()))
        store.publish("127.0.0.1:1/hello:1", store.resolve("hello:latest"), pulled=f"sha256:{'a' * 64}")
        async with Builder(store, registries=("*",)) as builder:
            await builder.pull("127.0.0.1:1/hello:1")

    async def test_there_is_room_for_so_many(self, store: BundleStore) -> None:
        async with Builder(store, registries=("*",), concurrent=0, queue=0) as builder:
            with pytest.raises(BuilderBusy):
                await builder.pull("127.0.0.1:1/hello:1")
