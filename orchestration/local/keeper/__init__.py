"""The keeper: a small process, the parent of every replica. It uses the standard library only; see `main`."""
