"""What a function's settings mean on this machine, as sentences for people."""

from __future__ import annotations

from orchestration.local.cgroups import Cgroups
from orchestration.local.isolation import SECRETS_FOLDER, Isolation
from orchestration.revision import Revision

TEMPLATES_OWN_COMMANDS = ("python index.py", "python3 index.py", "python -I pinnace_runtime/", "node pinnace_runtime/")
"""What `fprocess` says in OpenFaaS's templates and in ours: clients send it along without anybody's asking for it."""


def notes(
    revision: Revision, isolation: Isolation, cgroups: Cgroups | None, uid: int | None, *, runs_command: bool
) -> tuple[str, ...]:
    """Return the notes of one revision; `runs_command`: its template runs the command that a deploy may name."""
    found = []
    if uid is None:
        found.append(f"runs as the platform's own user, as all functions do: one trust domain ({isolation.why})")
    else:
        found.append(f"runs as user {uid}")
    if revision.env_process and not runs_command and not revision.env_process.startswith(TEMPLATES_OWN_COMMANDS):
        found.append(f"the command {revision.env_process!r} is not used: the function's template serves its handler itself")
    if not isolation.mounts:
        found.append(f"the folder /tmp is the machine's; $TMPDIR is the replica's own ({isolation.why})")
    if revision.secrets:
        if isolation.mounts:
            found.append(f"secrets are mounted at {SECRETS_FOLDER}")
        else:
            found.append(f"secrets are in the folder that $secret_mount_path names, not at {SECRETS_FOLDER} ({isolation.why})")
    held = cgroups.bases if cgroups is not None else {}
    by = f"cgroup v{cgroups.version}" if cgroups is not None else ""
    if revision.limits is not None and revision.limits.memory:
        limit = f"memory limit {revision.limits.memory}"
        found.append(f"{limit} is enforced by {by}" if "memory" in held else f"{limit} is enforced by RLIMIT_DATA, per process")
    if revision.limits is not None and revision.limits.cpu:
        limit = f"cpu limit {revision.limits.cpu}"
        found.append(f"{limit} is enforced by {by}" if "cpu" in held else f"{limit} is not enforced: no cgroups here")
    if revision.read_only_root_filesystem and not isolation.mounts:
        found.append(f"readOnlyRootFilesystem is not enforced ({isolation.why})")
    return tuple(found)
