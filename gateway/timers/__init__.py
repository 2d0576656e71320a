"""Timers that call functions: `orchestration.timers` says when each is due, `book` what was done, `timers` is the loop."""
