"""Functions as processes of this machine. The entry is `orchestrator.LocalOrchestrator`.

A deploy travels: `orchestrator` (checks, one transaction in `store`) → `rollouts` (which revision should have how many
replicas, and when traffic moves) → `supervisor` (starts and stops replicas) → `replica_process` (one replica's life) →
`launch` (what its process gets) → `keeper_link` → `keeper` (the process that is the parent of all replicas).

What all of them use of the machine (folder, store, keeper, isolation, …) is `machine`, opened first and closed last.

This file imports nothing: the keeper passes through it, and stays small.
"""
