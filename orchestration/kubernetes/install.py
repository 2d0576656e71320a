"""What a platform outside of a cluster needs in it: the Function resource, and the default namespace.

Inside, the chart brings both; the platform's account may not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from orchestration.kubernetes.api import DEFINITIONS, FUNCTIONS, NAMESPACES, Exists, Missing
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.crd import custom_resource_definition
from orchestration.kubernetes.names import GATEWAY, NAMESPACE_ANNOTATION
from orchestration.names import DEFAULT_NAMESPACE

log = logging.getLogger("pinnace.kubernetes")

SERVED_WITHIN_S: Final = 30.0


class NotServed(Exception):
    """The cluster took the Function resource and does not serve it."""


async def ensure(cluster: Cluster) -> None:
    """Make what is not there; what is there stays as it is. Raises ApiError, NotServed."""
    try:
        await cluster.listed(FUNCTIONS)
    except Missing:
        log.info("the cluster does not know Functions yet: installing their definition")
        await cluster.apply(DEFINITIONS, custom_resource_definition(), manager=GATEWAY)
        await _served(cluster)
    metadata = {"name": DEFAULT_NAMESPACE, "annotations": {NAMESPACE_ANNOTATION: "1"}}
    try:
        await cluster.get(NAMESPACES, "", DEFAULT_NAMESPACE)
    except Missing:
        try:
            await cluster.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, manager=GATEWAY)
        except Exists:
            return


async def _served(cluster: Cluster) -> None:
    deadline = time.monotonic() + SERVED_WITHIN_S
    while True:
        try:
            await cluster.listed(FUNCTIONS)
            return
        except Missing:
            if time.monotonic() > deadline:
                raise NotServed("the cluster has the definition of Functions and does not serve them") from None
            await asyncio.sleep(0.05)
