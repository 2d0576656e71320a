"""A stem: a process of one dependency set with the interpreter up and the runtime imported, from which others are forked.

A fork of it becomes what a plan says, as the keeper's own forks do (`child.settle`), and then calls the runtime where they
exec it: 15-25 ms less. It may become a zygote or a replica. The stem itself imports nothing but the standard library and
the runtime, neither the site-packages of its interpreter nor what .pth files name there: it has the platform's user,
and no code of a function's or of its dependencies ever runs in it. Its forks have dropped to the function's user before.

    {…, "id": ID}  with files: the plan (a memfd with JSON), stdout, stderr, listening or control socket, notify pipe
"""

# The keeper does without pathlib: it stays small.
from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import site
import sys
import time
from typing import Any

from orchestration.local.keeper import child, linux

CONTROL_FD = child.LISTEN_FD
NOTIFY_FD = child.NOTIFY_FD
_RUNTIME = ("process", "zygote", "templates", "thread_server", "newborn", "reseed", "fitness")
# Not `loop_server`, which looks for a loop among the dependencies. With asyncio it is 60 ms.
_LOOP = ("loop_connection", "lifespan")


def main() -> None:
    """Run the stem; the arguments are the runtime's folder, what its forks serve with, and the folder of this package."""
    runtime, servers, packages = sys.argv[1:]
    linux.set_child_subreaper(False)
    sys.path.append(runtime)
    for name in (*_RUNTIME, *(_LOOP if servers == "loop" else ())):
        importlib.import_module(f"pinnace_runtime.{name}")
    server = importlib.import_module("pinnace_runtime.fork_server").ForkServer(CONTROL_FD)
    importlib.import_module("pinnace_runtime.newborn").rename(b"stem")
    sys.path.remove(packages)
    sys.path.remove(runtime)
    for name in [name for name in sys.modules if name.partition(".")[0] == "orchestration"]:
        del sys.modules[name]  # a function may have a module of that name
    gc.collect()
    gc.freeze()
    os.write(NOTIFY_FD, b'{"ready": true}\n')
    os.close(NOTIFY_FD)
    server.run(lambda message, fds: _become(server, runtime, fds))


def _become(server: Any, runtime: str, fds: list[int]) -> None:
    """Never return: be what the plan says."""
    plan_fd, *files = fds
    notify = files[-1]
    try:
        plan = json.loads(os.pread(plan_fd, os.fstat(plan_fd).st_size, 0))
        server.leave()
        child.settle(plan, files, -1)
        notify = NOTIFY_FD
        linux.set_dumpable()
        _set_signals()
        _take_environment(plan["env"])
        entry, template = plan["argv"][-2:]
        sys.argv = [entry, template]
        site.main()  # the site-packages, and what .pth files say: now as the function's user
        sys.path.append(runtime)
        importlib.import_module("pinnace_runtime.newborn").rename(b"python")
        importlib.import_module("pinnace_runtime.process").main([template])
    except child.StepFailed as failure:
        text = f"cannot start ({failure.step}): {failure.text}"
    except Exception as error:
        text = f"cannot start: {error!r}"
    os.write(notify, json.dumps({"failed": text}).encode() + b"\n")
    os._exit(127)


def _set_signals() -> None:
    """Handle signals as the interpreter does when it starts; they are as before an exec."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _take_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
