"""Functions on a Kubernetes cluster: a `Function` resource, a controller that makes Deployments of it, and the seam.

From what is written to what runs: `resource` (the Function) → `crd` (its schema) → `observed` (all that is known of one) →
`plan` (what follows from it, pure) with `render` (manifests, pure) and `status` (what is told of it, pure) → `controller`
(carries it out) → `replicas` (what became of it) → `orchestrator` (the seam). Below them `client` speaks to the API server
and `reflector` keeps a copy of what is there. Only `client` imports the `kubernetes` package, when a connection is made.
"""
