"""The names by which our objects are known in a cluster."""

from __future__ import annotations

from typing import Final

GROUP: Final = "pinnace.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "Function"
PLURAL: Final = "functions"

FUNCTION_LABEL: Final = f"{GROUP}/function"
REVISION_LABEL: Final = f"{GROUP}/revision"
OPENFAAS_LABEL: Final = "faas_function"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
PINNACE: Final = "pinnace"
OPENFAAS: Final = "openfaas"

NAMESPACE_ANNOTATION: Final = "openfaas"
"""A namespace with `openfaas: "1"` holds functions (OpenFaaS's convention)."""

RESERVED: Final = ("kube-", "openshift-")
"""What the names of the cluster's own namespaces begin with: they never hold functions, whatever is annotated."""

SECRETS_ANNOTATION: Final = f"{GROUP}/secrets-updated-at"
"""On a Function: when a secret that it uses was last changed through the API. A new value rolls its pods."""

ROLLOUT_STEP_ANNOTATION: Final = f"{GROUP}/rollout-step"
ROLLOUT_ABORT_ANNOTATION: Final = f"{GROUP}/rollout-abort"
"""On a Function: how far its gradual rollout may go (`REVISION/STEP`), and why it is given up (`REVISION: WHY`). The gateway,
which sees the calls, writes them; the controller acts on them."""

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"

DRAINING: Final = f"{GROUP}/draining"
"""On a pod: since when it is closed to calls, because it is to go."""

CONTROLLER: Final = "pinnace-controller"
GATEWAY: Final = "pinnace-gateway"
"""Field managers: who wrote a field. What the controller owns it takes by force; the gateway asks."""

LEASE: Final = "pinnace-controller"
PORT: Final = 8080
CONTAINER: Final = "function"
