"""A platform in a process of its own, for tests that kill it.

`serve_platform.py DATA-FOLDER CODE-FOLDER` deploys a function the first time, prints what runs, and waits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE
from tests.orchestration.local.world import Bundles, get, spec, watching


async def main() -> None:
    opened = LocalOrchestrator.open(Path(sys.argv[1]), Bundles(Path(sys.argv[2])))
    async with opened as orchestrator, watching(orchestrator) as watch:
        if not orchestrator.statuses(DEFAULT_NAMESPACE):
            await orchestrator.apply(spec())
        await watch.until(watch.running)
        replica = watch.running()[0]
        escaped = int((await get(replica, "/escape"))[1])
        print(json.dumps({"keeper": orchestrator.keeper_pid, "replica": replica.pid, "escaped": escaped}), flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
