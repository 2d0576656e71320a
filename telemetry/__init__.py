"""Names of metrics and spans, and logging. Imports nothing of ours."""
