"""CloudEvents 1.0: read from HTTP (`http_binding`), checked (`event`), and given to the functions that want them (`router`)."""
