from __future__ import annotations

import asyncio
import gc

import pytest

from cli.process import Life, cannot_listen, collect_seldom, tell_ready, url_of


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("fd00::1", "http://[fd00::1]:80"),
    ],
)
def test_the_address_that_is_printed_works_on_this_machine(host: str, url: str) -> None:
    assert url_of(host, 80) == url


async def test_a_port_in_use_is_told_in_a_few_words() -> None:
    loop = asyncio.get_running_loop()
    taken = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="while attempting to bind") as caught:
            await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
    told = str(cannot_listen(f"http://127.0.0.1:{port}", caught.value))
    assert told == f"cannot listen on http://127.0.0.1:{port}: Address already in use; choose another with --port"


async def test_a_part_that_ends_by_itself_ends_the_platform_badly() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    life = Life()
    task = asyncio.create_task(fails())
    task.add_done_callback(life.part_ended)
    async with asyncio.timeout(20):
        await life.over.wait()
    assert life.code == 1


async def test_a_part_that_is_cancelled_is_no_failure() -> None:
    life = Life()
    task = asyncio.create_task(asyncio.sleep(60))
    task.add_done_callback(life.part_ended)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert not life.over.is_set()


def test_what_a_platform_is_made_of_is_left_out_of_passes_over_garbage(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [[number] for number in range(1000)]
    try:
        tell_ready("http://127.0.0.1:8080")
        made_since = [[number] for number in range(10)]
        looked_through = {id(one) for one in gc.get_objects()}
        assert not looked_through & set(map(id, parts))
        assert looked_through >= set(map(id, made_since))
    finally:
        gc.unfreeze()
    assert capsys.readouterr().out == "ready http://127.0.0.1:8080\n"


def test_garbage_is_looked_for_less_often_than_python_does() -> None:
    usual = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.isenabled() and gc.get_threshold()[0] > usual[0]
    finally:
        gc.set_threshold(*usual)
