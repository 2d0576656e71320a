"""Wires the roles that run apart on a cluster: many edges, the control API, and controllers of which one leads.

| role | has | needs |
|---|---|---|
| edge | the way of calls; its own watch of functions and pods | nobody on the way of a warm call |
| control | the API and the builder | the leader, for figures of calls |
| controller | who holds the Lease: controller, autoscaler, the ledger of slots | |

All find the leader by the Lease and link up with its hub (`gateway.edge.hub`). Controllers that do not lead, and the control
API, follow what edges tell, so that the next leader knows the load and the API can tell of it.

`serve` runs one of `edge`, `control` and `controller`; `parts` are what several of them have.
"""
