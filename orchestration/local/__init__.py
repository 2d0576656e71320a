"""Runs bundles as processes on this machine, with nothing else installed."""
