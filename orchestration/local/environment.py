"""The environment of a replica's process."""

from __future__ import annotations

from orchestration.bundle import Bundle
from orchestration.command import default_environment
from orchestration.revision import Revision, promised_environment

INSTANCE_VARIABLE = "PINNACE_INSTANCE"
HOSTNAME_VARIABLE = "HOSTNAME"  # what a pod has its name in
# A library that starts its threads when it is imported could not be forked.
THREADS_OF_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment(
    revision: Revision,
    bundle: Bundle,
    names: dict[str, str],
    *,
    instance: str,
    hostname: str,
    temporary: str,
    secrets: str,
    files: dict[str, str],
) -> dict[str, str]:
    """Return a replica's environment: the bundle's defaults, the function's own, and on top what the contract gives.

    `hostname` is the replica's name, which a variable of the function's own may replace. `files` are the variables that
    name the descriptors it inherits, or its port.
    """
    own = default_environment(bundle, names, temporary=temporary, env_process=revision.env_process)
    if "PINNACE_ZYGOTE_FD" in files:
        own |= dict.fromkeys(THREADS_OF_LIBRARIES, "1")
    own[HOSTNAME_VARIABLE] = hostname
    own |= revision.env_vars
    return own | {
        INSTANCE_VARIABLE: instance,
        **files,
        "PINNACE_LOG_FRAMES": "1",
        **promised_environment(revision, secrets),
    }
