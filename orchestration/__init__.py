"""The domain of the platform and the seam to the places where functions run.

A *function* is a name with settings; what changes its running code or environment makes a new immutable *revision*;
*traffic* says which revision gets which share of the calls; a revision's *replicas* are the processes (or pods) that
answer them; a *bundle* is the content-addressed code that a replica runs. Everything in this package outside of its
sub-packages is data and pure functions; each sub-package (`local`, …) implements `orchestrator.Orchestrator`.
"""
