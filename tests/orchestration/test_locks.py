"""Who writes takes turns."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AbstractAsyncContextManager

from orchestration.locks import Locks
from orchestration.names import FunctionId

ONE, OTHER = FunctionId("dev", "one"), FunctionId("dev", "other")


class World:
    """Tasks that hold a lock until they are told to go on; `order` is who held one, in order."""

    def __init__(self) -> None:
        self.locks = Locks()
        self.order: list[str] = []
        self._held: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def take(self, name: str, lock: AbstractAsyncContextManager[object]) -> None:
        go_on = self._held[name] = asyncio.Event()

        async def hold() -> None:
            async with lock:
                self.order.append(name)
                await go_on.wait()

        self._tasks[name] = asyncio.create_task(hold())
        await self.settle()

    async def end(self, name: str) -> None:
        self._held[name].set()
        await self._tasks[name]
        await self.settle()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def test_deploys_of_several_functions_go_on_at_a_time_those_of_one_take_turns() -> None:
    world = World()
    await world.take("one", world.locks.referring(ONE))
    await world.take("other", world.locks.referring(OTHER))
    await world.take("one again", world.locks.referring(ONE))
    await world.take("scaled", world.locks.function(ONE))
    assert world.order == ["one", "other"]
    await world.end("one")
    assert world.order == ["one", "other", "one again"]
    await world.end("one again")
    assert world.order[3:] == ["scaled"]


async def test_what_a_deploy_refers_to_is_not_changed_meanwhile_nor_used_while_it_is() -> None:
    world = World()
    await world.take("deploy", world.locks.referring(ONE))
    await world.take("delete", world.locks.changes("dev"))
    await world.take("later", world.locks.referring(OTHER))
    await world.take("elsewhere", world.locks.changes("prod"))
    assert world.order == ["deploy", "elsewhere"]
    await world.end("deploy")
    assert world.order[2:] == ["delete"], "it goes before who came later"
    await world.end("delete")
    assert world.order[3:] == ["later"]


async def test_who_gives_up_waiting_keeps_nobody_waiting() -> None:
    world = World()
    await world.take("deploy", world.locks.uses("dev"))
    await world.take("delete", world.locks.changes("dev"))
    await world.take("later", world.locks.uses("dev"))
    await world.give_up("delete")
    assert world.order == ["deploy", "later"]
    await world.give_up("deploy")
    await world.end("later")
    await world.take("last", world.locks.changes("dev"))
    assert world.order[2:] == ["last"]


async def test_locks_that_nobody_holds_are_not_kept() -> None:
    locks = Locks()
    for number in range(1000):
        async with locks.referring(FunctionId(f"dev-{number}", "one")):
            pass
        async with locks.changes(f"dev-{number}"):
            pass
    gc.collect()
    assert (len(locks._functions), len(locks._namespaces)) == (0, 0)
