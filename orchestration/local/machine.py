"""What one machine has for functions: the folder and what is kept in it, who makes processes, and how they are kept apart.

`orchestrator` is what runs functions with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

from orchestration.bundle import BundleSource, UnknownBundle
from orchestration.local.cgroups import Cgroups
from orchestration.local.data_folder import DataFolder
from orchestration.local.environment import INSTANCE_VARIABLE
from orchestration.local.isolation import Isolation, probe
from orchestration.local.keeper_link import KeeperLink
from orchestration.local.launch import Launcher
from orchestration.local.limits import machine_memory_bytes
from orchestration.local.logs import Logs
from orchestration.local.memory_budget import MemoryBudget
from orchestration.local.run_folder import run_folder
from orchestration.local.secret_store import SecretStore
from orchestration.local.stems import Stems
from orchestration.local.store import State, Store
from orchestration.names import FunctionId


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Made by `open`. `run_dir` is the folder for sockets, `state` what was kept when it was opened; `running_commands` are
    digests of bundles whose template runs a deploy's command, and grow. Without `cgroups` limits are not enforced by them."""

    folder: DataFolder
    run_dir: Path
    state: State
    store: Store
    secrets: SecretStore
    logs: Logs
    bundles: BundleSource
    keeper: KeeperLink
    stems: Stems
    budget: MemoryBudget
    isolation: Isolation
    cgroups: Cgroups | None
    running_commands: set[str]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        data_dir: Path,
        bundles: BundleSource,
        *,
        run_dir: Path | None,
        log_quota_bytes: int,
        log_keep_s: float,
        zygote_budget_bytes: int | None,
    ) -> AsyncIterator[Self]:
        """Take the data folder and start the keeper; parameters and errors are those of `LocalOrchestrator.open`."""
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(DataFolder(data_dir))
            store = await asyncio.to_thread(Store, folder.state)
            stack.push_async_callback(asyncio.to_thread, store.close)
            secrets = await asyncio.to_thread(SecretStore, folder.secrets)
            stack.push_async_callback(asyncio.to_thread, secrets.close)
            state = await asyncio.to_thread(store.load)
            sockets = stack.enter_context(run_folder(run_dir, state.instance))
            logs = await stack.enter_async_context(Logs(folder.logs, log_quota_bytes, log_keep_s))
            cgroups = await asyncio.to_thread(Cgroups.probe, state.instance)
            if cgroups is not None:
                await asyncio.to_thread(cgroups.sweep)
                stack.push_async_callback(asyncio.to_thread, cgroups.close)
            keeper = await stack.enter_async_context(KeeperLink(f"{INSTANCE_VARIABLE}={state.instance}"))
            budget = MemoryBudget(machine_memory_bytes() // 8 if zygote_budget_bytes is None else zygote_budget_bytes)
            stems = Stems(keeper, (INSTANCE_VARIABLE, state.instance), budget)
            stack.push_async_callback(stems.close)
            await asyncio.to_thread(folder.clear_replicas)
            isolation = await probe(keeper, folder.replicas)
            await store.reclaim(isolation.namespaces)
            yield cls(
                folder=folder,
                run_dir=sockets,
                state=state,
                store=store,
                secrets=secrets,
                logs=logs,
                bundles=bundles,
                keeper=keeper,
                stems=stems,
                budget=budget,
                isolation=isolation,
                cgroups=cgroups,
                running_commands=await asyncio.to_thread(_running_commands, bundles, state),
            )

    def launcher(self, user_of: Callable[[FunctionId], int | None]) -> Launcher:
        """Return what starts processes of functions; `user_of` gives the user number of each, None where it has none."""
        return Launcher(
            instance=self.state.instance,
            folder=self.folder,
            run_dir=self.run_dir,
            bundles=self.bundles,
            secrets=self.secrets,
            keeper=self.keeper,
            stems=self.stems,
            logs=self.logs,
            isolation=self.isolation,
            cgroups=self.cgroups,
            user_of=user_of,
        )


def _running_commands(bundles: BundleSource, state: State) -> set[str]:
    """Return the digests of bundles in use whose template runs a deploy's command. Reads the disk."""
    found = set()
    for revision in {record.function.newest.bundle: record.function.newest for record in state.records.values()}.values():
        with contextlib.suppress(UnknownBundle):  # its replicas will say so
            if revision.env_process and bundles.resolve(revision.bundle).runs_command:
                found.add(revision.bundle)
    return found
