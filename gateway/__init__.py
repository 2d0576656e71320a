"""Everything that speaks HTTP to the outside: the edge (invocations) and the control API."""
